"""Turns parser errors into messages that name the command's flags instead of Python classes."""

from __future__ import annotations

import argparse
import re
from typing import Any

import draccus

from ..errors import AiorecordError
from ..flags.flag_names import nearest
from ..flags.flag_types import field_names
from ..flags.flag_values import wrong_keys

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
}
_VALUE = re.compile(r"Couldn't parse '(?P<value>.*)' into an? (?P<kind>.*)", re.S)
_MISSING = re.compile(r"Missing required field\(s\) (?P<names>.*) for .*", re.S)
_UNKNOWN = re.compile(r"The fields (?P<names>.*) are not valid for .*", re.S)
_UNION = "Could not decode the value into any of the given types"
_CHOICE = re.compile(r"Couldn't find a choice class for '(?P<value>.*)' in ", re.S)


def explain(error: BaseException, kind: Any) -> BaseException | str:
    """The message for the user about a parsing error.

    Args:
        error: as argparse, draccus or the flags' classes raised it.
        kind: the dataclass of flags.
    """
    cause = error.__cause__
    place = getattr(error, "place", None)
    if isinstance(error, argparse.ArgumentError):
        return explain_usage(str(error))
    if isinstance(cause, AiorecordError):  # an error raised by a class of flags is the most specific
        return cause if place is None else f"{place}: {cause}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename} cannot be read: {error.strerror}."
    if not isinstance(error, draccus.utils.DecodingError):
        if isinstance(error, draccus.utils.DraccusException) and isinstance(cause, TypeError | ValueError):
            return str(cause) or error
        return error
    said = _said(error, kind)
    return said if place is None else f"{place}: {said}"


def explain_usage(text: str) -> str:
    """The message for the user about a usage error of argparse."""
    if match := re.fullmatch(r"argument (--\S+): expected one argument", text):
        return f"{match[1]} needs a value: {match[1]}=..."
    if match := re.fullmatch(r"argument (--\S+): invalid choice: '(.*)' \(choose from (.*)\)", text, re.S):
        choices = [choice.strip("'") for choice in match[3].split(", ")]
        return f"{match[1]} is one of {', '.join(choices)}, not {match[2]!r}.{nearest(match[2], choices)}"
    if match := re.fullmatch(r"unrecognized arguments: (.*)", text, re.S):
        return f"Nothing takes {match[1]!r}. A value follows its flag: --flag=value."
    return text.removeprefix("argument ")


def _said(error: Any, kind: Any) -> str:
    message, keys = error.message, wrong_keys(error)
    name = "--" + ".".join(keys)
    if match := _VALUE.fullmatch(message):
        wanted = KINDS.get(match["kind"], match["kind"])
        return f"{name} takes {wanted}, not {match['value']!r}."
    if match := _MISSING.fullmatch(message):
        return (
            f"{', '.join('--' + '.'.join((*keys, each)) for each in _quoted(match['names']))} must be given."
        )
    if _UNKNOWN.fullmatch(message):
        known = [".".join((*keys[:-1], each)) for each in field_names(kind, keys[:-1])]
        return f"There is no setting {'.'.join(keys)!r}.{nearest('.'.join(keys), known)}"
    if match := _CHOICE.match(message):
        return f"{name}.type: there is no type {match['value']!r}."
    if message.startswith(_UNION):
        return _of_union(error, kind)
    cause = error.__cause__
    if cause is not None and message.startswith("Failed when parsing"):
        return f"{name}: {cause}"
    said = f"{name}: {message}" if keys else message
    if isinstance(cause, TypeError | ValueError) and str(cause) not in said:
        said = f"{said} {cause}"
    return str(said)


def _of_union(error: Any, kind: Any) -> str:
    """The message about a value that fits none of several types: what each type needs."""
    reports = re.findall(r"^ {4}\S.*?: (.*)$", error.message, re.M)
    found = [_VALUE.fullmatch(report) for report in reports]
    if found and all(found):
        wanted = " or ".join(KINDS.get(each["kind"], each["kind"]) for each in found if each)
        value = next(each["value"] for each in found if each)
        return f"--{'.'.join(error.key_path)} takes {wanted}, not {value!r}."
    if len(reports) != 1:
        return f"--{'.'.join(error.key_path)}: {'; '.join(reports)}"
    inner = re.fullmatch(r"`([^`]*)`: (.*)", reports[0])
    keys = (*error.key_path, *inner[1].split(".")) if inner else error.key_path
    return _said(draccus.utils.DecodingError(keys, inner[2] if inner else reports[0]), kind)


def _quoted(names: str) -> list[str]:
    return re.findall("`([^`]*)`", names)
