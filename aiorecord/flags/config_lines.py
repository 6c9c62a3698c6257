"""Finds the line and column of each key in a config file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def places(path: str | Path) -> dict[tuple[str, ...], str]:
    """The place of each key in a config file.

    Args:
        path: a file of YAML or JSON.

    Returns:
        For each path of keys, such as ``("dataset", "fps")``, a place such as ``record.yaml, line 3,
        column 8``; empty for a file that cannot be parsed.
    """
    found: dict[tuple[str, ...], str] = {}
    try:
        with Path(path).open(encoding="utf-8") as file:
            root: Any = None if Path(path).suffix == ".toml" else yaml.compose(file, yaml.SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    seen = set[int]()
    while waiting:
        keys, node = waiting.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:  # a node with aliases is visited once
            continue
        seen.add(id(node))
        for key, value in node.value:
            if isinstance(key.value, str):
                path_of_keys = (*keys, key.value)
                found[path_of_keys] = place_text(path, key.start_mark.line, key.start_mark.column)
                waiting.append((path_of_keys, value))
    return found


def unreadable(path: str | Path, error: Exception) -> str:
    """The error in a config file, with line and column if its parser reports them."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, json.JSONDecodeError):
        return f"{place_text(path, error.lineno - 1, error.colno - 1)}: this is not JSON: {error.msg}."
    if mark is not None:
        said = getattr(error, "problem", None) or "it cannot be read"
        where = place_text(path, mark.line, mark.column)
        context = getattr(error, "context", None)
        return f"{where}: this is not YAML: {f'{context}, {said}' if context else said}."
    return f"{path} cannot be read: {' '.join(str(error).split())}"


def place_text(path: str | Path, line: int, column: int) -> str:
    """A place in a file, counted from 1 for people; `line` and `column` count from 0."""
    return f"{path}, line {line + 1}, column {column + 1}"
