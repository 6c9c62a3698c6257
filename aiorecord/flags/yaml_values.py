"""Reads values of YAML, JSON and TOML by the type of the field that they set.

draccus reads every argument as YAML before it knows the field: `#` begins a comment, `:` makes a mapping and
`yes` is True. Here the field's type decides: text is taken literally, everything else is YAML. In dicts,
lists and files, which are YAML, a bare word in a text field is that word as written.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import draccus
import yaml
from draccus.parsers.yaml_loader import SafeLoaderWithInclusion

from .config_lines import place_text, unreadable
from .flag_types import arms_of, field_type, is_text, takes

_BARE = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "timestamp"))
INCLUDE = "include "
"""The beginning of a flag's argument that names a file with its value."""


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
    if text.startswith(INCLUDE) and not any(is_text(arm) for arm in arms):
        return read_file(text.removeprefix(INCLUDE).strip(), kind)
    also_text = any(is_text(arm) for arm in arms)
    try:
        value = read_yaml(text, kind)
    except (yaml.YAMLError, RecursionError) as error:
        if also_text:
            return text
        raise ValueError(f"{text!r} cannot be read as YAML: {_one_line(error)}") from error
    return text if also_text and not any(takes(arm, value) for arm in arms) else value


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
