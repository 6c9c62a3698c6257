"""The code of README, the pages, the examples and the package's own docstring passes `mypy --strict`.

One run of mypy for all of them. Each block is a module of its own, in which the names that a page takes for
granted are declared as a reader would have them.
"""

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

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
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
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


def test_the_code_of_the_pages_is_typed(tmp_path):
    files = []
    for name, code in code_of_pages():
        file = tmp_path / f"{name}.py"
        body = textwrap.indent(textwrap.dedent(code), "    ")
        file.write_text(GRANTED + body, encoding="utf-8")
        files.append(file)
    assert len(files) > 8
    wrong = tmp_path / "wrong.py"
    wrong.write_text(GRANTED + "    save: int = await recorder.record(robot, teleop, seconds=1)\n")
    files += [e for e in (ROOT / "examples").glob("*.py") if e.name not in UNTYPED_EXAMPLES]
    errors = mypy(f"--cache-dir={tmp_path / 'cache'}", wrong, *files).splitlines()
    assert [error for error in errors if "wrong.py" not in error] == []
    assert any('"EpisodeSave"' in error for error in errors), "mypy did look at these files"
