"""The code of README, pages, examples and the package's own docstring passes `mypy --strict` and pyright.

One run of each for all of them. Each block is a module of its own, in which the names that a page takes for
granted are declared as a reader would have them. Pyright is run in its default mode, as the distribution that
PyPI has whole (`basedpyright` brings its own node).
"""

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GRANTED = """\
from collections.abc import Callable, Iterator
from typing import Any
import aiorecord
features: dict[str, dict[str, Any]]
num_episodes: int
robot: aiorecord.Robot
teleop: aiorecord.Teleoperator
recorder: aiorecord.Recorder
session: aiorecord.Session
frames_of_my_robot: Callable[[], Iterator[dict[str, Any]]]
async def page() -> None:
"""

UNTYPED_EXAMPLES = {"demo_async_saving.py"}


def code_of_pages():
    """Name and code of each block; `await` stands at the top level, as in a notebook."""
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
            line = text.count("\n", 0, block.start()) + 2
            yield f"{page.stem.replace('-', '_')}_line_{line}", block[1]
    source = (ROOT / "aiorecord" / "__init__.py").read_text(encoding="utf-8")
    usage = ast.get_docstring(ast.parse(source)).split("::\n", 1)[1]
    yield "docstring_of_aiorecord", re.match(r"((?:    .*)?\n)*", usage)[0]
    notebook = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    yield "notebook", "\n".join(cells)


def mypy(*files):
    """Types of what they import are taken as they are: those are checked elsewhere, with their stubs."""
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout


def pyright(folder, *files):
    """Types of lerobot are taken for anything, whether it is installed here or not."""
    for name, code in [(file, file.read_text(encoding="utf-8")) for file in files]:
        for node in ast.walk(ast.parse(code, str(name))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lerobot."):
                stub = folder / "stubs" / Path(*node.module.split(".")) / "__init__.pyi"
                stub.parent.mkdir(parents=True, exist_ok=True)
                known = stub.read_text() if stub.exists() else "from typing import Any\n"
                stub.write_text(known + "".join(f"class {each.name}(Any): ...\n" for each in node.names))
    config = {
        "include": [str(file) for file in files],
        "extraPaths": [str(ROOT)],
        "stubPath": str(folder / "stubs"),
        "typeCheckingMode": "standard",
        "reportMissingModuleSource": False,  # lerobot has a stub above, and may not be installed
        "reportUnusedExpression": False,  # the last one of a cell is shown
        "pythonVersion": "3.12",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    # Outside of the project's folder, so that its own settings do not count.
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "-p", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files)
    for each in report["generalDiagnostics"]:
        yield f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: {each['message']}"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The blocks and examples as files, one of them wrong."""
    folder = tmp_path_factory.mktemp("pages")
    files = []
    for name, code in code_of_pages():
        file = folder / f"{name}.py"
        body = textwrap.indent(textwrap.dedent(code), "    ")
        file.write_text(GRANTED + body, encoding="utf-8")
        files.append(file)
    assert len(files) > 8
    wrong = folder / "wrong.py"
    wrong.write_text(GRANTED + "    save: int = await recorder.record(robot, teleop, seconds=1)\n")
    return [wrong, *files, *(e for e in (ROOT / "examples").glob("*.py") if e.name not in UNTYPED_EXAMPLES)]


def check(errors):
    assert [error for error in errors if "wrong.py" not in error] == []
    assert any('"EpisodeSave"' in error for error in errors), "it did look at these files"


def test_the_code_of_the_pages_is_typed(tmp_path, pages):
    check(mypy(f"--cache-dir={tmp_path / 'cache'}", *pages).splitlines())


def test_the_code_of_the_pages_passes_pyright(tmp_path, pages):
    check(list(pyright(tmp_path, *pages)))
