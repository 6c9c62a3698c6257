"""The findings about a machine, one per line, fit to be pasted into a bug report."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..printable import plain


class Level(StrEnum):
    """How much a finding matters to a recording."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True)
class Finding:
    """One fact about the machine.

    Attributes:
        section: the group that it belongs to; `look` fills it in.
        name: what was checked.
        text: the result.
        level: how much it matters: a *note* is good to know, a *warn* makes a recording work less well, a
            *block* makes it impossible.
        advice: what to do, empty if nothing.
    """

    section: str = field(default="", kw_only=True)
    name: str
    text: str
    level: Level = Level.OK
    advice: str = ""


def judged(name: str, text: str, is_bad: bool, advice: str, level: Level = Level.WARN) -> Finding:
    """A finding that needs advice only where it is bad; `level` is for that case."""
    return Finding(name, text, level, advice) if is_bad else Finding(name, text)


def blocks(findings: Iterable[Finding]) -> bool:
    """Whether a finding makes a recording impossible."""
    return any(finding.level is Level.BLOCK for finding in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings, JSON-ready."""
    return {"blocked": blocks(findings), "findings": [asdict(anonymous(finding)) for finding in findings]}


def as_text(findings: Sequence[Finding], width: int = 100) -> str:
    """The findings as lines, section by section, in ASCII except for the machine's own names.

    Args:
        findings: in the order in which they are shown.
        width: of the lines, as far as their words allow.
    """
    lines: list[str] = []
    section = None
    for finding in map(anonymous, findings):
        if finding.section != section:
            section = finding.section
            lines += [*([""] if lines else []), section]
        mark = finding.level.upper() if finding.level in (Level.WARN, Level.BLOCK) else finding.level
        lines += _wrapped(f"{finding.name}: {finding.text}", f"  {mark:<6}", width)
        if finding.advice:
            lines += _wrapped(finding.advice, "         -> ", width)
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    verdict = "This machine cannot record as it is." if blocks(findings) else "Nothing here blocks recording."
    lines += ["", f"{verdict} {counts[Level.BLOCK]} block, {counts[Level.WARN]} to look at."]
    return "\n".join(lines)


def anonymous(finding: Finding) -> Finding:
    """A finding without the name of the user's home folder, and without terminal control characters."""
    home = str(Path.home())

    def clean(text: str) -> str:
        return plain(text if home in ("/", "/root") else text.replace(home, "~"))

    name, text, advice = map(clean, (finding.name, finding.text, finding.advice))
    return replace(finding, name=name, text=text, advice=advice)


def _wrapped(text: str, first: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
