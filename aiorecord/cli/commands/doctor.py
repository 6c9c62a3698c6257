"""`aiorecord doctor`: report what this machine has for recording, with advice on each line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ...doctor import as_json, as_text, blocks, look
from ...printable import json_text
from ..flag_parser import FlagParser
from ..output import dataset_folder, say

EXAMPLES = """examples:
  aiorecord doctor                    # this machine, and the disk of the current folder
  aiorecord doctor /mnt/datasets      # with the disk that you record to
  aiorecord doctor --fast             # without measuring
  aiorecord doctor > doctor.txt       # for a bug report; it holds no secrets

exit codes: 0 nothing blocks recording, 1 something does, 2 wrong usage."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = FlagParser(
        "aiorecord doctor",
        description="Report what this machine has for recording: versions, cameras and ports, permissions, "
        "disk and memory, codecs and how fast they are. Each problem comes with advice. "
        "Changes nothing.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "folder",
        type=dataset_folder,
        nargs="?",
        default=Path.cwd(),
        help="where you record to (default: here)",
    )
    parser.add_argument("--fast", action="store_true", help="do not measure how fast codecs and disk are")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    arguments = parser.parse_args(argv)
    if not arguments.fast and sys.stderr.isatty():
        say("measuring, some seconds ...", file=sys.stderr)
    findings = list(look(arguments.folder, fast=arguments.fast))
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    say(json_text(as_json(findings)) if arguments.json else as_text(findings, width))
    return 1 if blocks(findings) else 0
