"""The session as a state machine: phases and commands in, the next phase out. Pure.

Commands have the meaning of lerobot's keys: *end early* ends the episode or the reset; *re-record* drops the
running or the last episode and records it again after a reset; *stop* ends the recording and keeps the
running episode.
"""

from __future__ import annotations

import enum

from .plan import SessionPlan


class Phase(enum.StrEnum):
    """What the session is doing."""

    CONNECTING = "connecting"
    RECORDING = "recording"
    RESETTING = "resetting"
    WAITING = "waiting"
    DRAINING = "saving"
    PACKING = "packing"
    UPLOADING = "uploading"
    DONE = "done"


class Command(enum.StrEnum):
    """The commands of the operator."""

    END_EARLY = "end_early"
    RERECORD = "rerecord"
    STOP = "stop"


class SessionMachine:
    """Decides the next phase of a session. Pure.

    Attributes:
        phase: the present one.
        kept: episodes ended and kept so far.
        dropping: the running episode will be dropped when it ends.
        stopping: the session ends with this phase.
    """

    def __init__(self, plan: SessionPlan) -> None:
        self.plan = plan
        self.phase = Phase.CONNECTING
        self.kept = 0
        self.dropping = False
        self.stopping = False
        self._take_back = False

    @property
    def number(self) -> int:
        """Which episode of the session is recorded now or next, from 1."""
        return min(self.kept + 1 - self._take_back, self.plan.num_episodes)

    @property
    def finished(self) -> bool:
        """Whether enough episodes are kept for the plan, without one that is about to be taken back."""
        return self.kept - self.taking_back >= self.plan.num_episodes

    @property
    def taking_back(self) -> bool:
        """Whether the last episode will be dropped when the reset ends."""
        return self._take_back and self.kept > 0

    def connected(self) -> None:
        """Note that robot and teleoperator are ready."""
        self.phase = Phase.DRAINING if self.stopping else Phase.RECORDING

    def command(self, command: Command) -> bool:
        """Take a command.

        Returns:
            True when the running phase must end now.
        """
        if command is Command.STOP:
            self.stopping = True
            return True
        if self.phase is Phase.RECORDING:
            self.dropping = self.dropping or command is Command.RERECORD
            return True
        if self.phase is Phase.RESETTING:
            self._take_back = self._take_back or (command is Command.RERECORD and not self.dropping)
            return True
        return False

    def wait(self) -> None:
        """Note that the next episode cannot begin yet: too much is left to save."""
        self.phase = Phase.WAITING

    def waited(self) -> None:
        """Note that the next episode can begin, or that the operator has stopped the session."""
        self.phase = Phase.DRAINING if self.stopping else Phase.RECORDING

    def recorded(self, frames: int, *, flagged: bool = False, lost: bool = False) -> bool:
        """Note that the running episode ended.

        Args:
            frames: recorded in it.
            flagged: it exceeds a limit: a reset follows even the last episode, in which it can be taken back.
            lost: a source was lost: it is reconnected in a reset, even if the plan has none.

        Returns:
            True to keep it, False to drop it (empty, or to be recorded again).
        """
        keep = frames > 0 and not self.dropping
        self.kept += keep
        again = flagged and self.plan.review_s > 0  # a last take that the operator may want to record again
        if self.stopping or (self.finished and keep and not again):
            self.phase = Phase.DRAINING
        elif self.plan.reset_time_s > 0 or lost or self.finished:
            self.phase = Phase.RESETTING
        else:
            self._next_episode()
        return keep

    def keep_last(self) -> None:
        """Keep the last episode after all: it is too late to take it back."""
        self._take_back = False

    def reset(self) -> bool:
        """Note that the reset ended.

        Returns:
            True when the last episode must be taken back.
        """
        take_back, finished = self.taking_back, self.finished
        self.kept -= take_back
        if self.stopping or finished:
            self.phase = Phase.DRAINING
        else:
            self._next_episode()
        self._take_back = False
        return take_back

    def _next_episode(self) -> None:
        self.dropping = False
        self.phase = Phase.RECORDING
