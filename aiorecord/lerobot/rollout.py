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
    """Roll out a policy as a command line requests; see `aiorecord.lerobot.record.run`."""
    script = "lerobot.scripts.lerobot_rollout"
    return run_script("lerobot-rollout", script, "lerobot.rollout.context", argv, explain)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
