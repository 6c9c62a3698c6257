"""The examples run as they stand."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import episodes_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, root, *more):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), str(root), *more], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_embed_in_async_app(tmp_path):
    out = run("embed_in_async_app.py", tmp_path / "set")
    lengths = [e["length"] for e in episodes_of(tmp_path / "set")]
    assert len(lengths) == 2
    assert f"episode 1: {lengths[1]} frames" in out


def test_async_recording(tmp_path):
    out = run("async_recording.py", tmp_path / "set")
    assert "take 2 dropped" in out
    assert len(episodes_of(tmp_path / "set")) == 3


def test_demo_async_saving(tmp_path):
    picture, drawn = tmp_path / "saving.svg", find_spec("matplotlib") is not None
    out = run("demo_async_saving.py", tmp_path / "demo", *([f"--plot={picture}"] if drawn else []))
    for label in ("recording", "waiting for a save", "saving in the background"):
        assert not drawn or picture.read_text().count(f"<!-- {label} -->") == 1
    assert out.count("all in the dataset after") == 2
    for sign in "#.-":
        assert sign in out
    for folder in ("in-the-foreground", "in-the-background"):
        assert len(episodes_of(tmp_path / "demo" / folder)) == 3


# The client of the notebook's kernel keeps its sockets and connection file for the process.
@pytest.mark.leaves("eventpoll", "socket:", "temporary tmp")
def test_notebook():
    import nbclient
    import nbformat

    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    htmls = [o["data"]["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    assert len(htmls) == 3, "each view once, however often it was shown anew"
    assert "2 episodes" in htmls[1], "the last look is after the last save"
    assert all(html.count("data:image/jpeg") == 2 for html in htmls)
