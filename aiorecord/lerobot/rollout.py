"""Runs lerobot's own rollout script, unmodified, with aiorecord's dataset writer.

::

    python -m aiorecord.lerobot.rollout --strategy.type=episodic --policy.path=... --robot.type=...

Takes the flags of `lerobot-rollout`, and those of `aiorecord.lerobot.record.SavingFlags`. Episodes are saved
in the background.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .record import Explain, as_it_is, run_script


def run(argv: Sequence[str], explain: Explain = as_it_is) -> int:
    """Roll out a policy as a command line requests.

    Args:
        argv: arguments without the program's name.
        explain: finds words for what is wrong with the flags.

    Returns:
        The exit code: 0 done, 1 when an episode could not be saved (it stays in staging), 2 without lerobot.

    Raises:
        SystemExit: the flags are wrong, or help was asked for.
        Exception: as raised by lerobot's script.
    """
    script = "lerobot.scripts.lerobot_rollout"
    return run_script("lerobot-rollout", script, "lerobot.rollout.context", argv, explain)


def main() -> int:
    """`run` with this process's arguments."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
