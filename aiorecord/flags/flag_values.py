"""Reads the values of flags and config files by the type of the field that they set.

draccus reads every argument as YAML before it knows the field: `#` begins a comment, `:` makes a mapping and
`yes` is True. Here the field's type decides: text is taken literally, everything else is YAML. In dicts,
lists and files, which are YAML, a bare word in a text field is that word as written.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
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
from draccus.parsers.yaml_loader import SafeLoaderWithInclusion

from .config_lines import place_text, places, unreadable
from .flag_names import LOG_FLAGS, bare_flags, nearest, spelled, unknown_flags
from .flag_types import arms_of, field_type, is_text, takes, value_at

_BARE = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "timestamp"))
_INCLUDE = "include "


class FlagError(ValueError):
    """An error in a command line, described in the words of its user."""


class RepeatedKeyError(FlagError):
    """A flag, or a key in its value, is given twice: one of the two would be lost.

    Attributes:
        mark: the position in its text where it is given again, if known.
    """

    def __init__(self, message: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(message)
        self.mark = mark


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


class _Bare:
    """An unquoted word that YAML does not parse as text; the field's type decides which is meant."""

    def __init__(self, text: str, tag: str, value: Any) -> None:
        self.text, self.tag, self.value = text, tag, value

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return self.text == (other.text if isinstance(other, _Bare) else other)


class _Loader(SafeLoaderWithInclusion):
    """A YAML loader that refuses repeated keys, and keeps how unquoted words were written."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            seen = set[str]()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise RepeatedKeyError(f"{key.value!r} is named twice.", key.start_mark)
                    seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _bare(loader: Any, node: yaml.ScalarNode) -> Any:
    kind = node.tag.rpartition(":")[2]
    value = getattr(loader, f"construct_yaml_{kind}")(node)
    return _Bare(node.value, node.tag, value) if node.style is None else value


for _tag in _BARE:
    _Loader.add_constructor(_tag, _bare)
_Loader.add_representer(_Bare, lambda dumper, bare: dumper.represent_scalar(bare.tag, bare.text))


def read_yaml(text: str, kind: Any = Any) -> Any:
    """Read one value of YAML for a field.

    Args:
        text: such as ``[a, b]``.
        kind: the field's type.

    Raises:
        RepeatedKeyError: a key is named twice in one mapping.
        yaml.YAMLError: it is not YAML.
    """
    return _typed(yaml.load(text, _Loader), kind)  # a SafeLoader


def read_file(path: str | Path, kind: Any = Any) -> Any:
    """Read a config file: YAML, JSON or TOML by its name, as draccus does.

    Args:
        path: the file.
        kind: the dataclass it is for.

    Raises:
        RepeatedKeyError: a key is named twice.
        OSError: the file cannot be read.
        ValueError: it is not of the format that its name says, or not UTF-8.
        draccus.utils.DraccusException: likewise.
    """
    with Path(path).open(encoding="utf-8") as file:
        try:
            match Path(path).suffix:
                case ".json":
                    return json.load(file, object_pairs_hook=_pairs)
                case ".toml":
                    return draccus.cfgparsing.load_config(file, file=path)
            return _typed(yaml.load(file, _Loader), kind)  # a SafeLoader
        except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(unreadable(path, error)) from error
        except RepeatedKeyError as error:
            place = path if error.mark is None else place_text(path, error.mark.line, error.mark.column)
            raise RepeatedKeyError(f"{place}: {error}") from error


def read_flag(text: str, kind: Any) -> Any:
    """Read the argument of a flag: literally for text, as YAML or ``include FILE`` for other types.

    Raises:
        RepeatedKeyError: a key is named twice in one mapping.
        OSError: an included file cannot be read.
        ValueError: it, or the included file, is not YAML.
    """
    arms = arms_of(kind)
    if arms and all(is_text(arm) for arm in arms):
        return text
    if text == "":
        return text
    if text.startswith(_INCLUDE) and not any(is_text(arm) for arm in arms):
        return read_file(text.removeprefix(_INCLUDE).strip(), kind)
    also_text = any(is_text(arm) for arm in arms)
    try:
        value = read_yaml(text, kind)
    except (yaml.YAMLError, RecursionError) as error:
        if also_text:
            return text
        raise ValueError(f"{text!r} cannot be read as YAML: {_one_line(error)}") from error
    return text if also_text and not any(takes(arm, value) for arm in arms) else value


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
            if texts[name].startswith(_INCLUDE) and value != texts[name]:
                files[tuple(name.split("."))] = texts[name].removeprefix(_INCLUDE).strip()
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


def _typed(value: Any, kind: Any) -> Any:
    """A loaded value, with each unquoted word as its field's type needs it: as text, or as YAML parses it."""
    arms = arms_of(kind)
    if isinstance(value, _Bare):
        optional = type(None) in typing.get_args(kind)
        if arms and all(is_text(arm) for arm in arms) and not (optional and value.value is None):
            return value.text
        return value.value
    if isinstance(value, list):
        items = [_item(arm) for arm in arms]
        item = next((each for each in items if each is not Any), Any)
        return [_typed(each, item) for each in value]
    if isinstance(value, Mapping):
        return {_typed(key, _key(arms)): _typed(each, _of(key, arms, value)) for key, each in value.items()}
    return value


def _item(arm: Any) -> Any:
    arguments = typing.get_args(arm)
    return arguments[0] if typing.get_origin(arm) in (list, tuple, set) and arguments else Any


def _key(arms: Sequence[Any]) -> Any:
    for arm in arms:
        if dataclasses.is_dataclass(typing.get_origin(arm) or arm) or draccus.utils.is_choice_type(arm):
            return str
        if draccus.utils.is_dict(typing.get_origin(arm) or arm) and typing.get_args(arm):
            return typing.get_args(arm)[0]
    return Any


def _of(key: Any, arms: Sequence[Any], siblings: Mapping[Any, Any]) -> Any:
    """The type of one key's value in a mapping."""
    name = key.text if isinstance(key, _Bare) else str(key)
    for arm in arms:
        if draccus.utils.is_dict(typing.get_origin(arm) or arm) and len(typing.get_args(arm)) == 2:
            return typing.get_args(arm)[1]
    kind = arms[0] if len(arms) == 1 else typing.Union[tuple(arms)] if arms else Any  # noqa: UP007
    return field_type(kind, [name], [siblings])


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RepeatedKeyError(f"{key!r} is named twice.")
        found[key] = value
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
