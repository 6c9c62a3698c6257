"""The commands in README and docs, taken out of their code blocks as a shell would read them.

A reader tries the pages from the top, in the order of `PAGES`, in one folder. The tests do the same: each
line is run as it is written, with flags appended that make it short (of a flag given twice, the last counts).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("quickstart", "from-lerobot-record", "settings", "how-it-works")),
    *(f"docs/{name}.md" for name in ("python-api", "commands", "lerobot", "reliability", "performance")),
    *("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
)
SHORT = {
    "record": [
        *("--dataset.num_episodes=1", "--dataset.episode_time_s=0.1", "--dataset.reset_time_s=0"),
        *("--play_sounds=false", "--encode_workers=1", "--display=plain"),
    ],
    "teleoperate": ["--teleop_time_s=0.2"],
    "replay": ["--play_sounds=false"],
    "check": ["--workers=1"],
    "doctor": ["--fast"],
    "bench": [
        *("--cameras=1", "--sizes=96x64", "--codecs=h264", "--episodes=1", "--seconds=0.2", "--repeat=1"),
    ],
}
"""What is appended to a command, so that its test is short."""


@dataclass(frozen=True)
class Line:
    """One command of a page.

    Attributes:
        page: where it is.
        words: what the shell makes of it, without ``uv run`` and variables before it.
        to: the words of the command that its output goes to, if there is one.
    """

    page: str
    words: tuple[str, ...]
    to: tuple[str, ...] = ()

    @property
    def command(self) -> str | None:
        """Which command of aiorecord's it is, None if it is another program."""
        return self.words[1] if self.words[0] == "aiorecord" else None


def fences(page: str) -> list[tuple[str, str]]:
    """The code blocks of a page: what the fence says, and the text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(.*)\n((?s:.*?))^```$", text, re.M)


def lines(page: str) -> list[Line]:
    """The commands of a page, from top to bottom."""
    found = []
    for kind, text in fences(page):
        if kind != "sh":
            continue
        for line in text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            commands: list[list[str]] = [[]]
            for word in lexer:
                if word in ("&&", "|", ";"):
                    commands.append([word])
                else:
                    commands[-1].append(word)
            for words in filter(None, commands):
                if words[0] == "|":
                    found[-1] = Line(page, found[-1].words, tuple(words[1:]))
                else:
                    found.append(Line(page, _program(words[words[0] in ("&&", ";") :])))
    return found


def _program(words: list[str]) -> tuple[str, ...]:
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return tuple(words[2:] if words[:2] == ["uv", "run"] else words)
