"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str,
    homes: Mapping[str, str],
    *,
    explain: Callable[[str, ModuleNotFoundError], str | None] = lambda name, error: None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    Assign them where type checkers do not look, after the imports that only these do: a misspelled name is
    then an error to them.

    Args:
        package: its ``__name__``.
        homes: module, relative to the package, to the names it holds, separated by spaces; ``open=open_it``
            is its name ``open_it``, which the package calls ``open``.
        explain: for a name and the error of a module that is not installed, another message; None keeps the
            error.
    """
    where: dict[str, tuple[str, str]] = {}
    for home, names in homes.items():
        for entry in names.split():
            name, _, original = entry.partition("=")
            where[name] = home, original or name

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, original = where[name]
        try:
            value = getattr(import_module(f".{home}", package), original)
        except ModuleNotFoundError as error:
            if (message := explain(name, error)) is None:
                raise
            raise ModuleNotFoundError(message, name=error.name) from error
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(where)
