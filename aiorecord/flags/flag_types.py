"""Finds the type of the dataclass field that a dotted flag name such as ``robot.cameras`` sets."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import draccus

_TEXT: tuple[Any, ...] = (str, Path)


def field_type(kind: Any, parts: Sequence[str], known: Sequence[Any]) -> Any:
    """The type of the field that a flag such as ``robot.cameras`` sets; Any if that is unknown.

    Args:
        kind: the dataclass of flags.
        parts: the flag's name, split.
        known: the values given so far, the most important first; the types of choices are looked up there.
    """
    if not parts:
        return kind
    found: list[Any] = []
    inner = [each[parts[0]] for each in known if isinstance(each, Mapping) and parts[0] in each]
    for arm in arms_of(kind):
        for each in choices_of(arm, known):
            if parts == [draccus.CHOICE_TYPE_KEY] and draccus.utils.is_choice_type(arm):
                return str
            if (hint := hints_of(each).get(parts[0])) is not None:
                found.append(field_type(hint, parts[1:], inner))
        if draccus.utils.is_dict(typing.get_origin(arm) or arm) and len(typing.get_args(arm)) == 2:
            found.append(field_type(typing.get_args(arm)[1], parts[1:], inner))
    found = [each for n, each in enumerate(found) if each not in found[:n]]
    if not found:
        return Any
    # Two classes use one name for different fields: it is text only if both are text.
    return found[0] if len(found) == 1 else typing.Union[tuple(found)]  # noqa: UP007 - made at run time


def group_classes(
    kind: Any, keys: Sequence[str], given: Mapping[str, Any] = MappingProxyType({})
) -> list[Any]:
    """The dataclasses that a group of flags may set.

    Args:
        kind: the dataclass of flags.
        keys: the group, such as ``("robot",)``.
        given: the values given so far, such as ``{"robot": {"type": "sim"}}``: of a choice, only the selected
            class is returned, or all if none is selected.
    """
    return [
        each
        for arm in arms_of(field_type(kind, keys, [given]))
        for each in choices_of(arm, [value_at(given, keys)])
    ]


def field_names(kind: Any, keys: Sequence[str]) -> list[str]:
    """The names of the fields of a group of flags, whichever type is selected."""
    return list(dict.fromkeys(name for each in group_classes(kind, keys) for name in hints_of(each)))


def choices_of(arm: Any, known: Sequence[Any]) -> list[Any]:
    """The dataclasses that a field's type allows: of a choice, only the selected one."""
    if not draccus.utils.is_choice_type(arm):
        return [arm]
    for each in known:
        name = each.get(draccus.CHOICE_TYPE_KEY) if isinstance(each, Mapping) else None
        if name is not None:
            return [arm.get_known_choices()[name]] if name in arm.get_known_choices() else []
    default = arm.default_choice_name()
    choices = arm.get_known_choices()
    return [choices[default]] if default in choices else list(choices.values())


def hints_of(kind: Any) -> dict[str, Any]:
    origin = typing.get_origin(kind) or kind
    if not dataclasses.is_dataclass(origin):
        return {}
    hints = typing.get_type_hints(origin)
    return {field.name: hints.get(field.name, field.type) for field in dataclasses.fields(origin)}


def arms_of(kind: Any) -> list[Any]:
    """The types that a field may have, without None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [each for arm in typing.get_args(kind) for each in arms_of(arm)]
    return [] if kind is type(None) else [kind]


def is_text(arm: Any) -> bool:
    if typing.get_origin(arm) is typing.Literal:
        return all(isinstance(value, str) for value in typing.get_args(arm))
    return arm in _TEXT


def takes(arm: Any, value: Any) -> bool:
    """Whether a type other than text accepts a value as YAML parsed it."""
    origin = typing.get_origin(arm) or arm
    if isinstance(value, Mapping):
        return dataclasses.is_dataclass(origin) or bool(draccus.utils.is_dict(origin))
    if isinstance(value, list):
        return origin in (list, tuple, set)
    return origin in (bool, int, float) and (
        type(value) is origin or (origin is float and type(value) is int)
    )


def value_at(values: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
