"""Reads the flags of command lines and config files, in place of draccus's reader, see `yaml_values`."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

import draccus
import yaml
from draccus import argparsing

from .config_lines import places
from .flag_names import LOG_FLAGS, bare_flags, nearest, spelled, unknown_flags
from .flag_types import arms_of, field_type, is_text, value_at
from .yaml_values import INCLUDE, FlagError, RepeatedKeyError, read_file, read_flag


class UnknownFlagError(FlagError):
    """A flag does not exist."""


class MissingFlagsError(FlagError):
    """Required flags are missing.

    Attributes:
        flags: the missing flags, such as ``--robot.type``.
    """

    def __init__(self, flags: Sequence[str]) -> None:
        super().__init__(f"{', '.join(flags)} must be given.")
        self.flags = tuple(flags)


class FlagParser(argparsing.ArgumentParser):
    """draccus's parser, with `read_flag` in place of its YAML.

    If a plain value is given twice the last one counts. A dict, a list or a group that is given twice is
    refused: the content of the first one would be lost. Hyphens in names equal underscores, and a boolean
    flag without a value is true.

    Attributes:
        needed: required flags, given on the command line or in a file.
        explain: returns the message for an error, given the error and the dataclass of flags; see
            `parse_args`.
    """

    needed: ClassVar[Sequence[str]] = ()
    explain: ClassVar[Callable[[BaseException, Any], object] | None] = None
    _repeated: Mapping[str, str] = MappingProxyType({})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As draccus's.

        Raises:
            FlagError: with `explain`: whatever is wrong with the flags, in its words.
            Exception: without: as `parse_known_args`.
        """
        explain = type(self).explain
        if explain is None:
            return super().parse_args(args, namespace)
        self.parser.error = _raise_usage  # not argparse's list of every flag
        try:
            return super().parse_args(args, namespace)
        except (draccus.utils.DraccusException, argparse.ArgumentError, yaml.YAMLError, ValueError) as error:
            raise FlagError(str(explain(error, self.config_class))) from error

    def parse_known_args(
        self, args: Any = None, namespace: Any = None, *, is_parse_args: bool = False
    ) -> Any:
        """As draccus's method.

        Raises:
            UnknownFlagError: there is no such flag.
            MissingFlagsError: one of `needed` is not given.
            RepeatedKeyError: a flag with several values is given twice, or a key in its value.
            ParsingError: a value does not fit its field. The error's attribute `place` is its place in a
                file.
        """
        known = self.parser._option_string_actions
        args = self._completed(spelled(sys.argv[1:] if args is None else args, known))
        if is_parse_args and not {"-h", "--help"} & set(args) and (unknown := unknown_flags(args, known)):
            raise UnknownFlagError(
                f"There is no flag {unknown[0]}.{nearest(unknown[0], [*known, *LOG_FLAGS])}"
            )
        self._repeated = repeated_flags(args, known)
        return super().parse_known_args(args, namespace, is_parse_args=is_parse_args)

    def _completed(self, args: list[str]) -> list[str]:
        """Add the value ``true`` to every switch without a value."""
        if bare := bare_flags(args):
            chosen: dict[str, Any] = {}
            for argument in args:
                name, _, value = argument.removeprefix("--").partition("=")
                group, _, last = name.rpartition(".")
                if last == draccus.CHOICE_TYPE_KEY and "." not in group:
                    chosen[group] = {last: value}
            for position in bare:
                parts = args[position].removeprefix("--").split(".")
                arms = arms_of(field_type(self.config_class, parts, [chosen]))
                if arms and all(arm is bool for arm in arms):
                    args[position] += "=true"
        return args

    def _postprocessing(self, parsed_args: Any) -> Any:
        texts: dict[str, str] = vars(parsed_args)
        path = texts.pop(draccus.utils.CONFIG_ARG, self.config_path)
        kind = self.config_class
        file = {} if path is None else read_file(path, kind)
        if file is None:
            file = {}
        if not isinstance(file, dict):
            raise ValueError(f"{path} holds no flags by name.")
        if path is not None and Path(path).is_file():
            for flag in LOG_FLAGS:  # of every command: taken from the file before this one was begun
                file.pop(flag.removeprefix("--"), None)
        values: dict[str, Any] = {}
        files: dict[tuple[str, ...], str] = {} if path is None else {(): path}
        # Groups before their fields, so that the type of a group is known.
        for name in sorted(texts, key=lambda name: (name.count("."), not name.endswith(".type"))):
            field = field_type(kind, name.split("."), [values, file])
            if name in self._repeated and not all(_replaces(arm) for arm in arms_of(field)):
                raise RepeatedKeyError(f"--{name} is given twice, the last time as {self._repeated[name]}.")
            try:
                value = read_flag(texts[name], field)
                _put(values, name, value)
            except RepeatedKeyError as error:
                raise RepeatedKeyError(f"--{name}: {error}") from error
            if texts[name].startswith(INCLUDE) and value != texts[name]:
                files[tuple(name.split("."))] = texts[name].removeprefix(INCLUDE).strip()
        merged = _merged(file, values)
        if missing := [
            flag for flag in self.needed if value_at(merged, flag.removeprefix("--").split(".")) is None
        ]:
            raise MissingFlagsError(missing)
        try:
            return draccus.parsers.decoding.decode(kind, merged)
        except draccus.utils.ParsingError as error:
            error.place = _place(error, values, files)
            raise


def wrong_keys(error: Any) -> tuple[str, ...]:
    """The path of keys that a `draccus.utils.DecodingError` is about, including an unknown key."""
    unknown = re.match(r"The fields `([^`]*)`", error.message)
    return (*error.key_path, *([unknown[1]] if unknown else ()))


def _place(error: Any, values: Any, files: Mapping[tuple[str, ...], str]) -> str | None:
    """The place of the error in a file; None if it is on the command line, or unknown."""
    found: dict[tuple[str, ...], str] = {}
    for prefix, path in files.items():
        found |= {(*prefix, *keys): place for keys, place in places(path).items()}
        if not prefix:  # the command line overrides files
            found = {keys: place for keys, place in found.items() if value_at(values, keys) is None}
    if isinstance(error, draccus.utils.DecodingError):
        return found.get(wrong_keys(error))
    # An error raised by a class of flags names only its own field.
    option = str(getattr(error.__cause__, "option", None)).rpartition(".")[2]
    named = [place for keys, place in found.items() if keys[-1] == option]
    return named[0] if len(named) == 1 else None


def repeated_flags(args: Sequence[str], known: Mapping[str, Any]) -> dict[str, str]:
    """The flags that a command line gives more than once, by name, with the last value."""
    seen = set[str]()
    found: dict[str, str] = {}
    for argument in args:
        name = argument.partition("=")[0]
        if argument == "--":
            break
        if name.startswith("--") and name in known:
            if name in seen:
                found[name.removeprefix("--")] = argument
            seen.add(name)
    return found


def _replaces(arm: Any) -> bool:
    """Whether a second value of this type replaces the first one as a whole."""
    return is_text(arm) or arm in (bool, int, float) or typing.get_origin(arm) is typing.Literal


@contextlib.contextmanager
def letter_by_letter(
    needed: Sequence[str] = (), explain: Callable[[BaseException, Any], object] | None = None
) -> Iterator[None]:
    """Within the block, `draccus.parse` reads flags as this module does, also in scripts that call it.

    Args:
        needed: required flags, such as ``--robot.type``.
        explain: returns the message for an error, which is then raised as `FlagError`; None raises errors
            unchanged.
    """
    original = argparsing.ArgumentParser
    own = {"needed": tuple(needed), "explain": None if explain is None else staticmethod(explain)}
    argparsing.ArgumentParser = type("FlagParser", (FlagParser,), own)
    try:
        yield
    finally:
        argparsing.ArgumentParser = original


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    at = values
    for group in groups:
        at = at.setdefault(group, {})
        if not isinstance(at, dict):
            raise ValueError(f"--{name} does not go together with --{group}.")
    if last in at:
        raise RepeatedKeyError("it is given a second time, in the flag of its group.")
    at[last] = value


def _raise_usage(message: str) -> NoReturn:
    raise argparse.ArgumentError(None, message)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested dicts; values of `over` win."""
    merged = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], Mapping) and isinstance(over[key], Mapping):
            merged[key] = _merged(under[key], over[key])
    return merged
