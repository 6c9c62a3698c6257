"""`aiorecord record`: record episodes with a robot and a teleoperator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiofiles
import anyio

from ...errors import AiorecordError, StorageError
from ...monitor.entities import split_frame
from ...monitor.live_view import LiveView
from ...monitor.resources import PeakMemory
from ...monitor.session_report import build_report
from ...monitor.sinks.plain import NoView, PlainView
from ...monitor.snapshot import Observer
from ...monitor.viewer import Viewer, check_viewer
from ...recording.recorder import Recorder
from ...robots.connecting import connected
from ...session import Command, EpisodeRecord, Phase, Session, SessionEvents
from ...system.disk import DiskAlert
from ...system.memory import spare_collections
from ...system.scheduling import realtime
from ...system.storage import storage_errors
from ...system.tasks import beside
from ...system.threads import run_in_thread
from ..devices import CommandDevices, parse_device_flags, print_error
from ..hub import check_hub, push, retry_command
from ..keys import has_keyboard, keys_notes, reading_keys
from ..output import say
from ..record_config import (
    COMMON,
    NEEDED,
    RecordFlags,
    check_flags,
    notes_on,
    recorder_options,
    session_plan,
    source_policy,
)
from ..recovery_table import table_of
from ..said_already import flags_are_told
from ..session_log import logged
from ..sounds import Speaker
from ..stop_signals import watch_signals
from ..summary import leaving_line, left_over, summary_lines
from ..table_console import output_console
from ..viewing import viewing

EXAMPLES = """examples:
  # the simulated arm, two episodes of five seconds
  aiorecord record --robot.type=sim --teleop.type=sim \\
      --dataset.repo_id=demo/pick-cube --dataset.root=data/pick-cube \\
      --dataset.single_task="Pick up the cube" --dataset.num_episodes=2 \\
      --dataset.episode_time_s=5 --dataset.reset_time_s=2

  # continue where the last session ended
  aiorecord record ... --resume

  # recorded video instead of a robot
  aiorecord record --robot.type=replay --robot.videos='{front: kitchen.mp4}' \\
      --teleop.type=replay --dataset.repo_id=demo/kitchen \\
      --dataset.root=data/kitchen --dataset.single_task="Stir"

  # all flags from a file
  aiorecord record --config_path=record.yaml

keys: → or n ends the episode, ← or r records it again, Esc or q stops (not on Windows: Ctrl-C stops there).
exit codes: 0 recorded, 1 something failed (data stays in staging), 2 wrong usage,
130 ended early: you left before all was saved, or a full disk cut an episode short."""

REFRESH_S = 0.25


def make_view(display: str | None) -> LiveView | PlainView | NoView:
    """The view of `--display`."""
    if display == "live":
        return LiveView(has_keyboard())
    return NoView() if display == "none" else PlainView()


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    flags = parse_device_flags(
        RecordFlags, argv, prog="aiorecord record", examples=EXAMPLES, needed=NEEDED, common=COMMON
    )
    if isinstance(flags, int):
        return flags
    try:
        check_flags(flags, terminal=sys.stdout.isatty())
        for note in [*notes_on(flags), *check_extras(flags), *keys_notes()]:
            say(f"note: {note}", file=sys.stderr)
        return asyncio.run(RecordCommand(flags).run())
    except AiorecordError as error:
        print_error(error)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:  # before anything had begun that needs an orderly end
        say("Stopped.", file=sys.stderr)
        return 130


def check_extras(flags: RecordFlags) -> list[str]:
    """Check that the packages which the flags need are installed, before anything is recorded.

    Returns:
        Notes for the user, a line each.

    Raises:
        ConfigError: one is missing, or does not support what is asked.
    """
    if flags.display_data:
        check_viewer(flags.display_mode)
    return check_hub(flags.dataset.repo_id) if flags.dataset.push_to_hub else []


class RecordCommand:
    """One run of the command.

    Args:
        flags: checked flags.
    """

    def __init__(self, flags: RecordFlags) -> None:
        self.flags = flags
        self.interrupted = False
        self.left_early = False
        self._signals = 0
        self._skip_upload = False
        self._view: LiveView | PlainView | NoView | None = None
        self._memory = PeakMemory()
        self._speaker = Speaker(flags.play_sounds)
        self._started_s = time.monotonic()
        self._session: Session | None = None
        self._recorder: Recorder | None = None
        self._scope: anyio.CancelScope | None = None
        self._disk_alert = DiskAlert()
        self._realtime = False
        self._upload_error: AiorecordError | None = None
        self._uploaded = False

    async def run(self) -> int:
        """Record, save, pack, report; returns the exit code.

        Raises:
            AiorecordError: why it could not start, or what ended it.
        """
        # Kept until the end: a late signal must not prevent the report.
        async with beside(watch_signals(self._on_signal, self._on_hangup), "aiorecord-signals"):
            with flags_are_told():
                return await self._run()

    async def _run(self) -> int:
        flags = self.flags
        devices = CommandDevices(
            flags.robot,
            flags.teleop,
            use_videos=flags.dataset.video,
            record_sent_action=flags.record_sent_action,
            slow_call_s=flags.slow_call_s,
        )
        robot, teleop = devices.robot, devices.teleop
        assert teleop is not None  # check_flags
        plan = session_plan(flags)
        if not has_keyboard():  # nobody is present who could take back a flagged last episode
            plan = replace(plan, flagged_reset_s=0)
        recorder = self._recorder = Recorder(
            flags.dataset.repo_id,
            features=devices.features,
            fps=flags.dataset.fps,
            **recorder_options(flags, robot.name),
        )
        error: AiorecordError | None = None
        stack = contextlib.AsyncExitStack()
        async with viewing(flags, "recording") as viewer:
            await recorder.open()
            if recorder.recovered and flags.display != "none":
                say("Left in staging by an earlier session, and saved after this one:")
                output_console().print(table_of(recorder.recovered, done=False))
            session = self._session = Session(recorder, robot, teleop, plan, policy=source_policy(flags))
            view = self._view = make_view(flags.display)
            observer = Observer(session)
            session.events = logged(self._events(view, observer, viewer))
            try:
                # Before keys are read: drivers that calibrate ask questions on the terminal.
                error = await self._work_on(stack.enter_async_context(connected(robot, teleop)))
                if error is None and not self.left_early:
                    spare_collections()
                    with view, reading_keys(self.command, view.terminal):
                        async with (
                            beside(self._speaker.run(), "aiorecord-speaker"),
                            beside(self._look(view, observer, devices), "aiorecord-monitor"),
                        ):
                            error = await self._work_on(self._record_and_save(session, view))
            finally:
                try:
                    await stack.aclose()  # the session has disconnected them, unless it never began
                except AiorecordError as problem:
                    error = error or problem  # the report and the summary follow anyway
                finally:
                    try:
                        await recorder.aclose(drain=False)
                    except AiorecordError as problem:
                        error = error or problem
        failed = [r for r in session.records if not r.save.done() or not r.save.result().success]
        if error is None:
            error = self._upload_error
        elif self._upload_error is not None:
            error.add_note(str(self._upload_error))
        try:
            await self._write_report(session, error)
        except StorageError as problem:  # the summary follows anyway
            if error is None:
                error = problem
            else:
                error.add_note(str(problem))
        say("\n".join(summary_lines(session, self.left_early, await run_in_thread(left_over, recorder))))
        if (
            flags.dataset.push_to_hub
            and not self._uploaded
            and error is None
            and recorder.writer.total_episodes
        ):
            command = retry_command(
                recorder.root, recorder.repo_id, flags.dataset.private, flags.dataset.tags
            )
            say(f"The dataset was NOT uploaded. Upload it: {command}", file=sys.stderr)
        if error is not None:
            raise error
        if failed and not self.left_early:
            return 1
        cut_short = any(record.cut_by_machine for record in session.records)
        not_uploaded = flags.dataset.push_to_hub and not self._uploaded
        return 130 if self.left_early or cut_short or (self._skip_upload and not_uploaded) else 0

    def command(self, command: Command) -> None:
        """Take an operator's command. While saving, *stop* leaves what is not encoded in staging."""
        session = self._session
        if session is None:
            return
        if command is not Command.STOP:
            session.command(command)
        elif session.phase in (Phase.DRAINING, Phase.UPLOADING):
            self._leave()
        elif session.phase is Phase.PACKING:
            self._finish_packing()
        else:
            session.command(command)

    def _leave(self) -> None:
        """End soon. Tell the operator at once what that means; the summary says what is safe."""
        if not self.left_early and self._view is not None and self._session is not None:
            self._view.line(leaving_line(self._session))
        self.left_early = True
        if self._scope is not None:
            self._scope.cancel()

    def _finish_packing(self) -> None:
        """Let a packing that has begun end; the upload after it is skipped."""
        if not self._skip_upload and self._view is not None:
            self._view.line(
                "Every episode is in the dataset. Small files are merged to the end, then this ends."
            )
        self._skip_upload = True

    def _on_signal(self) -> None:
        """The first signal ends the episode and finishes saves; a second one, or one during saves, leaves.

        While connecting or uploading there is nothing to save: then the first one leaves.
        """
        self._signals += 1
        self.interrupted = True
        phase = Phase.CONNECTING if self._session is None else self._session.phase
        if phase is Phase.PACKING or (self._signals == 1 and phase is not Phase.CONNECTING):
            self.command(Command.STOP)
        else:
            self._leave()

    def _on_hangup(self) -> None:
        """The terminal was closed: act as for a first signal, but never leave a save unfinished."""
        if self._session is None or self._session.phase not in (Phase.DRAINING, Phase.PACKING):
            self._on_signal()

    async def _work_on(self, work: Coroutine[Any, Any, None]) -> AiorecordError | None:
        """Run work that `_leave` may cancel; returns the error that ended it early."""
        with anyio.CancelScope() as self._scope:
            try:
                await work
            except AiorecordError as error:
                return error
        return None

    async def _record_and_save(self, session: Session, view: Any) -> None:
        """Run the session, then save, pack and upload."""
        recorder = session.recorder
        try:
            with realtime() if self.flags.realtime else contextlib.nullcontext(False) as self._realtime:
                await session.run()
        finally:
            # Also after an error: the episodes that ended before it must get into the dataset.
            if not self.left_early:
                session.machine.phase = Phase.DRAINING
                session.events.on_phase(Phase.DRAINING)
                await recorder.drain()
                session.machine.phase = Phase.PACKING
                session.events.on_phase(Phase.PACKING)
                if recorder.writer.total_episodes:
                    try:
                        await recorder.pack()
                    except StorageError as error:  # everything is committed; the earlier error says more
                        view.line(f"complete, but not packed: {error} `aiorecord recover` packs it.")
                    await self._upload(session, view)
                session.machine.phase = Phase.DONE
                self._speaker.say("Exiting")

    async def _upload(self, session: Session, view: Any) -> None:
        """Upload the committed episodes, if asked to. A failure is stored, and raised at the run's end."""
        flags = self.flags.dataset
        if not flags.push_to_hub or self._skip_upload:
            return
        session.machine.phase = Phase.UPLOADING
        session.events.on_phase(Phase.UPLOADING)
        loop, steps = asyncio.get_running_loop(), set[int]()

        def on_progress(done: int, total: int) -> None:
            step = 10 * done // max(total, 1)
            if step not in steps:
                steps.add(step)
                loop.call_soon_threadsafe(view.line, f"uploading: {step * 10} %")

        try:
            url = await push(
                session.recorder.root,
                flags.repo_id,
                private=flags.private,
                tags=flags.tags,
                on_progress=on_progress,
            )
        except AiorecordError as error:
            self._upload_error = error
        else:
            self._uploaded = True
            view.line(f"uploaded to {url}")

    def _events(self, view: Any, observer: Observer, viewer: Viewer | None) -> SessionEvents:
        def on_phase(phase: Phase) -> None:
            session = self._session
            assert session is not None
            spoken = {
                Phase.RECORDING: f"Recording episode {session.next_index}",
                Phase.RESETTING: "Reset the environment",
                Phase.DRAINING: "Stop recording",
            }
            if phase in spoken:
                self._speaker.say(spoken[phase])
            view.draw(observer.take())

        def named(record: EpisodeRecord) -> str:
            return observer.session.name_of(record.save)

        def on_episode(record: EpisodeRecord) -> None:
            late = record.lateness
            view.line(
                f"{named(record)}: {record.frames} frames, late p99 {late['p99_ms']:.1f} ms, "
                f"at worst {late['worst_ms']:.1f} ms"
                + (f", {late['missed']} ticks missed" if late["missed"] else "")
            )
            for source, facts in record.sources.items():
                view.line(
                    f"  {source}: {facts['errors']} failures, "
                    f"held in {facts['held']} of {record.frames} frames"
                )
            if record.end_reason is not None:
                view.line(f"  ended early, kept: {record.end_reason}")

        def on_source(line: str) -> None:
            view.line(line)
            observer.say(line)

        def on_flagged(record: EpisodeRecord) -> None:
            self._speaker.say(f"{named(record)} is flagged".capitalize())
            can = has_keyboard() and observer.session.can_take_back(record.save)
            again = "; ← records it again" if can else ""
            view.line(f"{named(record)} is FLAGGED: {'; '.join(record.flags)}{again}")

        def on_dropped(number: int) -> None:
            self._speaker.say("Re-record episode")
            view.line(f"take {number} of {observer.session.plan.num_episodes} dropped, to be recorded again")

        def on_frame(frame: dict[str, Any], recording: bool) -> None:
            if viewer is not None:
                viewer.show(*split_frame(frame), observer.session.recorder.features)

        return SessionEvents(
            on_phase=on_phase,
            on_frame=on_frame,
            on_episode=on_episode,
            on_flagged=on_flagged,
            on_dropped=on_dropped,
            on_source=on_source,
            on_refused=on_source,
            on_tick=lambda ticker: self._draw_in_slack(view, observer),
        )

    def _draw_in_slack(self, view: Any, observer: Observer) -> None:
        """Draw after a tick's work, when there is time left before the next tick."""
        session = self._session
        if session is None or session.ticker is None or time.monotonic() < self._next_draw_s:
            return
        slack_s = (session.ticker.next_deadline_ns - session.recorder.clock.now_ns()) / 1e9
        if view.fits(slack_s):
            self._next_draw_s = time.monotonic() + REFRESH_S
            view.draw(observer.take())

    _next_draw_s = 0.0

    async def _look(self, view: Any, observer: Observer, devices: CommandDevices) -> None:
        recorder = observer.session.recorder
        while True:
            self._memory.sample(recorder.saver.executor)
            disk = recorder.get_status().disk
            if disk is not None and (alert := self._disk_alert.look(disk)) is not None:
                view.line(alert)
            for line in devices.slow_calls():
                view.line(line)
            if observer.session.ticker is None:
                view.draw(observer.take())
            await asyncio.sleep(REFRESH_S)

    async def _write_report(self, session: Session, error: AiorecordError | None) -> None:
        if self.flags.report is None:
            return
        report = build_report(
            session,
            wall_s=time.monotonic() - self._started_s,
            peak_rss=self._memory.peak,
            realtime=self._realtime,
            interrupted=self.interrupted or error is not None,
            error=None if error is None else str(error),
        )
        text = json.dumps(report, indent=2, ensure_ascii=False).encode(errors="backslashreplace")
        with storage_errors(Path(self.flags.report), "write the report"):
            async with aiofiles.open(self.flags.report, "wb") as file:
                await file.write(text + b"\n")
