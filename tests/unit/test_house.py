"""The tree explains itself: names that are found by searching, and a word at the door of each room."""

import ast
import re
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "aiorecord"

SHARED = {
    "__init__": "a package",
    "episode": "the application's face of an episode, and its live capture",
    "record": "the command, ours and lerobot's",
}
"""Names that more than one module may have, and why."""


def test_a_name_is_of_one_module():
    found = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        found[path.stem].append(path.relative_to(PACKAGE))
    twice = {name: paths for name, paths in found.items() if len(paths) > 1 and name not in SHARED}
    assert not twice


def test_every_module_says_what_it_is():
    silent = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_what_a_test_replaces_is_named_by_an_import():
    """A name in a string is not found when its module moves."""
    by_string = re.compile(r"""(?:setattr|delattr|patch)\(\s*f?["'][\w{}]+\.""")
    tests = PACKAGE.parent / "tests"
    assert not [path.name for path in tests.rglob("*.py") if by_string.search(path.read_text("utf-8"))]
