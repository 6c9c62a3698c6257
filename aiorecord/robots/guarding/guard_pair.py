"""Guards a robot and its teleoperator together: makes the two guards, reports on them, reconnects devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...clock import NS_PER_S, Clock, sleep_until
from ...errors import FrameError, SourceError, SourceLostError
from ...features import Schema
from ..protocols import Robot, Teleoperator
from ..schema import dataset_features
from ..step import control_step
from .device_reports import layers
from .guard import GuardedRobot, GuardedTeleoperator
from .sent_action import apart, recording_sent_action
from .source_policy import SourcePolicy, SourceStatus

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 5.0
"""Seconds between two attempts to reconnect a lost source; doubled each time."""

MAX_RANGES, MAX_SOURCES = 1500, 40
"""Most runs of held frames, over all sources, and most sources that are stored per episode, so that a loose
contact cannot fill the manifest. All frames are counted."""

STORED_PER_S = 5
"""How often held frames are stored in the running episode, while there are new ones."""


@dataclass(frozen=True)
class Guards:
    """A guarded robot and teleoperator.

    Attributes:
        robot: for `control_step`.
        teleop: likewise.
        all: the guards in them.
    """

    robot: Robot
    teleop: Teleoperator
    all: tuple[GuardedRobot, GuardedTeleoperator]

    @property
    def is_well(self) -> bool:
        """Every source was well when it was last asked."""
        return all(guard.is_well for guard in self.all)

    @property
    def never_came(self) -> bool:
        """See `GuardedRobot.never_came`."""
        return any(guard.never_came for guard in self.all)

    def status(self) -> list[SourceStatus]:
        """The status of each source."""
        return [status for guard in self.all for status in guard.status()]


def guarded(
    robot: Robot,
    teleop: Teleoperator,
    features: Schema | Mapping[str, Mapping[str, Any]],
    policy: SourcePolicy | None = None,
    *,
    fps: float,
    clock: Clock | None = None,
    finite: bool = False,
) -> Guards:
    """Guard a robot and the teleoperator that drives it, each unless it is guarded already.

    Args:
        robot: the robot, also one of `recording_sent_action`.
        teleop: its teleoperator.
        features: of the dataset.
        policy: what to do about failures; default `SourcePolicy()`.
        fps: steps per second.
        clock: of the recording; default the system's.
        finite: observed numbers must be finite. Those of actions must be in any case.
    """
    schema = features if isinstance(features, Schema) else Schema(features)
    inner = apart(robot, teleop)
    bare_robot, bare_teleop = inner or (robot, teleop)
    asked = schema
    if inner is not None:  # the dataset's actions are the robot's, and the teleoperator has its own
        asked = Schema(dataset_features({}, bare_teleop.action_features))
    guard_t = bare_teleop
    if not isinstance(guard_t, GuardedTeleoperator):
        guard_t = GuardedTeleoperator(bare_teleop, asked, policy, clock=clock, fps=fps)
    guard_r = bare_robot
    if not isinstance(guard_r, GuardedRobot):
        guard_r = GuardedRobot(
            bare_robot, schema, policy, clock=clock, fps=fps, teleop=guard_t, finite=finite
        )
    both = guard_r, guard_t
    if inner is not None:
        return Guards(*recording_sent_action(guard_r, guard_t), both)
    return Guards(guard_r, guard_t, both)


async def regain(
    guards: Guards,
    features: Mapping[str, Mapping[str, Any]],
    policy: SourcePolicy,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    """Recover lost sources: step until all sources work, and reconnect lost ones in between.

    Each step sends the operator's current action, never an old one. A device that is slow is not
    reconnected: its late call is waited for, as long as the policy allows, and the device is asked once
    more.

    Raises:
        SourceLostError: they did not come back within the policy's time.
    """
    for guard in guards.all:
        guard.patient = True
    try:
        await _regain(guards, features, policy, clock, say)
    finally:
        for guard in guards.all:
            guard.patient = False


async def _regain(
    guards: Guards,
    features: Mapping[str, Mapping[str, Any]],
    policy: SourcePolicy,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    end_ns = clock.now_ns() + round(policy.reconnect_s * NS_PER_S)
    wait_s = FIRST_WAIT_S
    problem: Exception | None = None
    attempt = 0
    while True:
        try:
            await control_step(guards.robot, guards.teleop, features)
        except (SourceError, FrameError) as error:
            problem = problem or error
        if guards.is_well:
            return
        late = [guard for guard in guards.all if guard.late_call is not None]
        left_s = (end_ns - clock.now_ns()) / NS_PER_S
        if left_s <= 0:
            source = getattr(problem, "source", "robot")
            raise SourceLostError(
                f"{problem or 'A source was lost.'} It did not come back within {policy.reconnect_s:g} s.",
                source=source,
                call="connect",
            ) from problem
        await sleep_until(clock, clock.now_ns() + round(min(wait_s, left_s) * NS_PER_S))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        if not policy.reconnect:
            continue
        attempt += 1
        for guard in reversed(guards.all):
            if guard.is_lost:
                came_back = await guard.came_back(min(left_s, wait_s))
                if came_back is None and guard in late:
                    came_back = True  # it returned since
                if came_back:
                    wait_s = FIRST_WAIT_S  # it returned: it is asked again
                elif came_back is False and (call := guard.late_call) is not None:
                    say(
                        f"attempt {attempt}: {guard.name!r} does not return from {call}(); it is waited for "
                        f"({left_s:.0f} s left)"
                    )
                if came_back is not None:
                    continue
                try:
                    await guard.reconnect(left_s)
                except Exception as error:  # noqa: BLE001 - a driver's; the next attempt may succeed
                    problem = error
                    say(f"connecting again, attempt {attempt}: {error} ({left_s:.0f} s left)")


class HeldFrames:
    """Finds the frames of an episode that hold repeated values of a failed source.

    Args:
        devices: those that are recorded, as they are when the episode begins. Guards are looked for in the
            wrappers around them; there may be none, or several around one device.
    """

    def __init__(self, *devices: Robot | Teleoperator) -> None:
        found = (layer for device in devices for layer in layers(device))
        self._guards = [layer for layer in found if isinstance(layer, GuardedRobot | GuardedTeleoperator)]
        self._before = list(self.statuses())
        self._runs: dict[str, list[list[int]]] = {}
        self._counts: dict[str, int] = {}
        self._noted = 0
        self._stored_at = 0  # the frame at which `new_facts` last returned them
        self._changed = False

    def statuses(self) -> Iterator[SourceStatus]:
        """What happened to each source since its guard was made."""
        return (status for guard in self._guards for status in guard.status())

    def note_frame(self, frame: int) -> None:
        """Note the sources that were held in the latest step, which gave this frame."""
        for source in {source for guard in self._guards for source in guard.held}:
            self._changed = True
            self._counts[source] = self._counts.get(source, 0) + 1
            runs = self._runs.setdefault(source, [])
            if runs and runs[-1][1] == frame:
                runs[-1][1] = frame + 1
            elif self._noted < MAX_RANGES:
                runs.append([frame, frame + 1])
                self._noted += 1

    def new_facts(self, frame: int, every: int) -> dict[str, Any]:
        """`facts` if there are held frames that were not returned yet; else empty. Cheap.

        The episode of a killed process keeps the facts that were stored before.

        Args:
            frame: the latest one, after `note_frame`.
            every: return them at most once in this many frames.
        """
        if not self._changed or frame - self._stored_at < every:
            return {}
        self._changed, self._stored_at = False, frame
        return self.facts()

    def facts(self) -> dict[str, Any]:
        """Facts for `Episode.annotate`: by source, all counts above zero. Empty if nothing failed.

        Returns:
            ``{"sources": {name: {"errors", "retries", "held", "held_frames", "last_error"}}}``;
            ``held_frames`` are ranges of frame indices, ``[first, one past the last]``, the first
            `MAX_RANGES` of them.
        """
        found: dict[str, dict[str, Any]] = {}
        for before, status in zip(self._before, self.statuses(), strict=True):
            errors = status.errors - before.errors
            held = self._counts.get(status.source, 0)
            if not errors and not held:
                continue
            facts = found.setdefault(status.source, {"errors": 0, "retries": 0, "held": held})
            facts["errors"] += errors
            facts["retries"] += status.retries - before.retries
            if held:
                facts["held_frames"] = self._runs[status.source]
            if errors:
                facts["last_error"] = status.last_error
        worst = sorted(found, key=lambda source: found[source]["held"], reverse=True)[:MAX_SOURCES]
        return {"sources": {s: facts for s, facts in found.items() if s in worst}} if found else {}
