"""The flags of `aiorecord record`: lerobot's with their names, meanings and defaults, and aiorecord's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

import draccus

from ..encoders import DepthEncoderConfig, RGBEncoderConfig
from ..errors import ConfigError
from ..options import RecorderKeywords, RecorderOptions, check_number, resolve_root
from ..robots import ReplayRobotConfig, ReplayTeleopConfig, SimRobotConfig, SimTeleopConfig
from ..robots.faults import Fault
from ..robots.guarding.source_policy import SourcePolicy
from ..session import SessionPlan
from .output_files import check_output

NEEDED = {
    "--robot.type=sim": "the robot: sim, replay, or one of lerobot's",
    "--teleop.type=sim": "the teleoperator that moves it, likewise",
    "--dataset.repo_id=me/pick-cube": "the dataset's name",
    '--dataset.single_task="Pick up the cube"': "the task, in words",
}
"""The flags that are required to record: an example of each, and its meaning."""

COMMON = (
    "--dataset.root",
    "--dataset.num_episodes",
    "--dataset.episode_time_s",
    "--dataset.reset_time_s",
    "--dataset.fps",
    "--dataset.rgb_encoder.vcodec",
    "--dataset.push_to_hub",
    "--resume",
    "--display_data",
    "--display",
    "--play_sounds",
    "--report",
    "--config_path",
)
"""The other flags that a short help lists."""


@dataclass
class RobotChoice(draccus.ChoiceRegistry):
    """The robot, selected by ``--robot.type``."""


@dataclass
class TeleopChoice(draccus.ChoiceRegistry):
    """The teleoperator, selected by ``--teleop.type``."""


@RobotChoice.register_subclass("sim")
@dataclass
class SimRobotChoice(SimRobotConfig, RobotChoice):
    """A simulated six-joint arm on a table with a cube."""

    # Simulated failures, for tests: which source fails, how, and at which calls.
    faults: list[Fault] = field(default_factory=list)


@RobotChoice.register_subclass("replay")
@dataclass
class ReplayRobotChoice(ReplayRobotConfig, RobotChoice):
    """Recorded videos and trajectories, played in real time."""

    # Simulated failures, for tests: which source fails, how, and at which calls.
    faults: list[Fault] = field(default_factory=list)


@TeleopChoice.register_subclass("sim")
@dataclass
class SimTeleopChoice(SimTeleopConfig, TeleopChoice):
    """Scripted pick-and-place motions."""

    # Simulated failures, for tests: which source fails, how, and at which calls.
    faults: list[Fault] = field(default_factory=list)


@TeleopChoice.register_subclass("replay")
@dataclass
class ReplayTeleopChoice(ReplayTeleopConfig, TeleopChoice):
    """The recorded actions."""

    # Simulated failures, for tests: which source fails, how, and at which calls.
    faults: list[Fault] = field(default_factory=list)


@dataclass
class DatasetFlags:
    """What is recorded and how it is stored (`--dataset.*`)."""

    # Name of the dataset, 'name' or 'user/name'.
    repo_id: str = ""
    # The task, in words: "Pick up the cube".
    single_task: str = ""
    # Folder of the dataset. Default: $HF_LEROBOT_HOME/repo_id.
    root: str | None = None
    # Frames per second.
    fps: int = 30
    # Seconds of each episode.
    episode_time_s: float = 60
    # Seconds between episodes to reset the scene.
    reset_time_s: float = 60
    # Episodes to record.
    num_episodes: int = 50
    # Store cameras as video; false stores PNG images in Parquet.
    video: bool = True
    # Upload the dataset to the Hugging Face Hub at the end.
    push_to_hub: bool = False
    # Upload as private; unset leaves it to the Hub's default.
    private: bool | None = None
    # Tags of the dataset on the Hub.
    tags: list[str] | None = None
    # Keep repo_id as it is; false appends date and time.
    no_stamp: bool = True
    # Final encoding of colour cameras.
    rgb_encoder: RGBEncoderConfig = field(default_factory=RGBEncoderConfig)
    # Final encoding of depth cameras.
    depth_encoder: DepthEncoderConfig = field(default_factory=DepthEncoderConfig)
    # Threads per encoder; unset leaves it to the codec.
    encoder_threads: int | None = RecorderOptions.encoder_threads
    # Save episodes in the background; false saves each in the foreground.
    async_saving: bool = RecorderOptions.async_saving
    # Saves that may wait; when full, the next episode is saved in the foreground.
    async_save_queue_size: int = RecorderOptions.save_queue_size
    # Seconds after which a save without progress fails (its data stays in staging).
    async_save_timeout: float = 300.0
    # No effect here: images never go through PNG files on disk.
    num_image_writer_processes: int | None = None
    # No effect here: images never go through PNG files on disk.
    num_image_writer_threads_per_camera: int | None = None
    # No effect here: every episode is encoded by itself, in the background.
    video_encoding_batch_size: int | None = None
    # No effect here: frames are captured losslessly and encoded in the background.
    streaming_encoding: bool | None = None
    # No effect here: buffers are bounded in bytes, see --buffer_mb.
    encoder_queue_maxsize: int | None = None


@dataclass
class RecordFlags:
    """`aiorecord record`: record episodes, which are saved in the background."""

    # The robot; --robot.type selects it.
    robot: RobotChoice
    dataset: DatasetFlags
    # The teleoperator; --teleop.type selects it.
    teleop: TeleopChoice | None = None
    # Record the action that the robot reports as sent (clipped, for instance) instead of the requested one.
    record_sent_action: bool = False
    # Report calls of a lerobot driver that take longer than this many seconds.
    slow_call_s: float = 1.0
    # Give the control loop real-time priority, where the system allows it (root, or an rtprio limit).
    realtime: bool = True
    # When a camera, robot or teleoperator fails: hold (its last good value is repeated for a while, then the
    # episode is ended and kept), end (ended and kept at once), or raise (the recording stops).
    on_source_error: str = "hold"
    # Seconds for which a last good value may be repeated.
    max_hold_s: float = 1.0
    # Other limits for single sources: {front: 3, teleop: 0.2}.
    max_hold_s_of: dict[str, float] = field(default_factory=dict)
    # How often a failed call is repeated in the same tick.
    source_retries: int = 1
    # Seconds after which a call that does not return counts as failed.
    source_timeout_s: float = 0.5
    # Send the last action again in every tick while the teleoperator is held.
    resend_held_action: bool = False
    # Disconnect and reconnect a lost source; false only asks it again.
    reconnect: bool = True
    # Seconds to wait for a lost source before the recording is ended.
    reconnect_s: float = 60.0
    # Continue an existing dataset; unfinished episodes of an earlier session are saved first.
    resume: bool = RecorderOptions.resume
    # What resuming does with an interrupted episode: keep the frames that reached the disk, drop it, or leave
    # it in staging (stage).
    partial: str = RecorderOptions.partial
    # Speak announcements, if the machine has a speech program.
    play_sounds: bool = True
    # Show cameras and states in a viewer while recording (needs the extra 'viz').
    display_data: bool = False
    # The viewer: rerun or foxglove.
    display_mode: str = "rerun"
    # rerun: address of a viewer that runs elsewhere; one is started here if unset. foxglove: interface to
    # serve on.
    display_ip: str | None = None
    # Port of the viewer, or the port to serve on (Foxglove).
    display_port: int | None = None
    # Show JPEG instead of raw images; done anyway when both address and port are given.
    display_compressed_images: bool = False
    # live, plain or none; default: live on a terminal, else plain.
    display: str | None = None
    # Write a report of the session to this JSON file.
    report: str | None = None
    # Flag an episode when a tick was later than this many milliseconds.
    max_late_ms: float | None = None
    # Flag an episode when a camera repeated more frames than this.
    max_repeats: int | None = None
    # Memory in MB for frames waiting for the capture encoders; more goes to disk.
    buffer_mb: float = RecorderOptions.buffer_mb
    # Encoder processes; unset chooses by the number of cores.
    encode_workers: int | None = RecorderOptions.encode_workers
    # live captures in the final codec, deferred encodes later, auto uses live where it is fast enough.
    encode: str = RecorderOptions.encode
    # Codec for a colour video if the configured one fails twice on it, such as h264; if unset, the episode
    # stays in staging.
    fallback_vcodec: str | None = RecorderOptions.fallback_vcodec
    # Space in GB to leave free on the disk: the episode ends before less is free. 0 disables the check.
    min_free_gb: float = RecorderOptions.min_free_gb
    # fifo or shortest: which waiting episode is encoded next. They are committed in the order of recording.
    save_order: str = RecorderOptions.save_order
    # GB that ended episodes may take on disk until they are saved; above, the next one waits. 0: no limit.
    max_backlog_gb: float = RecorderOptions.max_backlog_gb


WITHOUT_EFFECT = (
    "num_image_writer_processes",
    "num_image_writer_threads_per_camera",
    "video_encoding_batch_size",
    "streaming_encoding",
    "encoder_queue_maxsize",
)


def notes_on(flags: RecordFlags) -> list[str]:
    """One line for each given flag that has no effect here."""
    return [
        f"--dataset.{name} has no effect: aiorecord captures losslessly and encodes in the background."
        for name in WITHOUT_EFFECT
        if getattr(flags.dataset, name) is not None
    ]


def check_flags(flags: RecordFlags, *, terminal: bool) -> RecordFlags:
    """Fill in defaults that depend on the environment, and check what draccus cannot.

    Args:
        flags: as parsed.
        terminal: standard output is a terminal.

    Raises:
        ConfigError: a flag has an unusable value.
    """
    dataset = flags.dataset
    if flags.teleop is None:
        raise ConfigError("A teleoperator is needed: --teleop.type=sim, for example.", option="teleop.type")
    if not dataset.repo_id:
        raise ConfigError("Name the dataset: --dataset.repo_id=me/pick-cube.", option="dataset.repo_id")
    if not dataset.single_task:
        raise ConfigError(
            'Say what is being done: --dataset.single_task="Pick up the cube".', option="dataset.single_task"
        )
    if flags.display is None:
        flags.display = "live" if terminal else "plain"
    if flags.display not in ("live", "plain", "none"):
        raise ConfigError(f"--display is live, plain or none, not {flags.display!r}.", option="display")
    for device in (flags.robot, flags.teleop):
        # Simulated and replayed devices advance one step per tick, so they need the dataset's rate.
        if isinstance(device, RobotChoice | TeleopChoice) and hasattr(device, "fps"):
            device.fps = dataset.fps
    source_policy(flags)
    check_number("slow_call_s", flags.slow_call_s, above=0)
    session_plan(flags).check_rate(check_fps(dataset.fps))
    if flags.resume:
        _check_resumable(resolve_root(dataset.repo_id, dataset.root))
    if flags.report is not None:
        check_output(Path(flags.report), "report")
    if not dataset.no_stamp and not flags.resume:
        dataset.repo_id += datetime.now().astimezone().strftime("_%Y%m%d_%H%M%S")
    return flags


def _check_resumable(root: Path) -> None:
    try:
        empty = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    except OSError:  # the recorder reports what is wrong with it
        return
    # A session killed in its first moments may have left files, which are no obstacle.
    if empty:
        raise ConfigError(
            f"There is no dataset in {root} to resume. Leave --resume out to begin one there, or name "
            "the folder of the one to continue: --dataset.root=...",
            option="resume",
        )


def check_fps(fps: int) -> int:
    """Check the dataset's rate.

    Raises:
        ConfigError: it is not 1 or more.
    """
    check_number("dataset.fps", fps, least=1)
    return fps


def session_plan(flags: RecordFlags) -> SessionPlan:
    """The session plan that the flags describe.

    Raises:
        ConfigError: it is invalid.
    """
    return SessionPlan(
        task=flags.dataset.single_task,
        num_episodes=flags.dataset.num_episodes,
        episode_time_s=flags.dataset.episode_time_s,
        reset_time_s=flags.dataset.reset_time_s,
        max_late_ms=flags.max_late_ms,
        max_repeats=flags.max_repeats,
    )


def source_policy(flags: RecordFlags) -> SourcePolicy:
    """The source policy that the flags describe.

    Raises:
        ConfigError: a value is invalid.
    """
    if flags.on_source_error not in ("hold", "end", "raise"):
        raise ConfigError(
            f"--on_source_error is hold, end or raise, not {flags.on_source_error!r}.",
            option="on_source_error",
        )
    return SourcePolicy(
        on_error=flags.on_source_error,
        max_hold_s=flags.max_hold_s,
        max_hold_s_of=flags.max_hold_s_of,
        retries=flags.source_retries,
        call_timeout_s=flags.source_timeout_s,
        resend=flags.resend_held_action,
        reconnect=flags.reconnect,
        reconnect_s=flags.reconnect_s,
    )


OTHER_NAMES = {"async_save_queue_size": "save_queue_size", "async_save_timeout": "save_timeout"}
"""Flags that have the proposal's names, and the options that they set."""


def recorder_options(flags: RecordFlags, robot_type: str) -> RecorderKeywords:
    """The options of `Recorder` that the flags set; the recorder checks them."""
    given = {
        OTHER_NAMES.get(name, name): value for name, value in (vars(flags.dataset) | vars(flags)).items()
    }
    names = given.keys() & RecorderOptions.__dataclass_fields__.keys()
    return cast(RecorderKeywords, {"robot_type": robot_type} | {name: given[name] for name in names})
