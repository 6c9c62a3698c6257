"""Runs lerobot's own recording script, unmodified, with aiorecord's dataset writer.

::

    python -m aiorecord.lerobot.record --robot.type=so101_follower ... --dataset.single_task="Grab the cube"

Takes the flags of `lerobot-record`, and those of `SavingFlags`. Episodes are saved in the background.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ..flags.flag_names import CONFIG_FLAG, HELP_ALL, spelled
from ..flags.flag_values import letter_by_letter
from ..flags.yaml_values import FlagError
from ..printable import get_logger, plain
from ..system.installation import install_hint
from .drivers.device_flags import is_installed, values_of

if TYPE_CHECKING:
    from .dropin.dataset_writer import AsyncDatasetWriter
    from .dropin.lerobot_dataset import AsyncLeRobotDataset

logger = get_logger(__name__)

type Explain = Callable[[BaseException, Any], object]
"""Turns an error in the flags of a dataclass into a message for the user."""


def as_it_is(error: BaseException, kind: Any) -> object:
    """The error's own message."""
    return error


@dataclass(frozen=True)
class SavingFlags:
    """The flags in addition to those of lerobot's script.

    Attributes:
        async_saving: save episodes in the background; False saves each one in the foreground.
        async_save_queue_size: episodes that may wait; when that many do, the next one is saved in the
            foreground.
        async_save_timeout: seconds after which a save without progress fails (its data stays in staging).
    """

    async_saving: bool = True
    async_save_queue_size: int = 10
    async_save_timeout: float = 300.0


EXAMPLES = {
    "lerobot-record": """\
  aiorecord lerobot-record --robot.type=so101_follower --robot.port=/dev/ttyACM0 \\
      --teleop.type=so101_leader --teleop.port=/dev/ttyACM1 \\
      --dataset.repo_id=me/cubes --dataset.single_task="Grab the cube" \\
      --dataset.num_episodes=5 --dataset.push_to_hub=false --dataset.async_saving=true""",
    "lerobot-rollout": """\
  aiorecord lerobot-rollout --strategy.type=episodic --policy.path=me/my-policy \\
      --robot.type=so101_follower --robot.port=/dev/ttyACM0 \\
      --dataset.repo_id=me/rollout_cubes --dataset.single_task="Grab the cube" \\
      --dataset.num_episodes=5 --dataset.push_to_hub=false""",
}

SHORT_HELP = """usage: aiorecord {program} [flags of {program}]

lerobot's own script, unmodified, with aiorecord's writer.

examples:
{examples}

exit codes: 0 done, 1 an episode could not be saved (it stays in staging), 2 wrong usage.
"""

HELP = """saving in the background (aiorecord):
  --dataset.async_saving bool
                        Save episodes in the background; false saves each in the foreground. (default: true)
  --dataset.async_save_queue_size int
                        Saves that may wait; if full, the next is made in the foreground. (default: 10)
  --dataset.async_save_timeout float
                        Seconds after which a save without progress fails; its data stays in
                        staging. (default: 300)
"""


def run(argv: Sequence[str], explain: Explain = as_it_is) -> int:
    """Record as a command line requests.

    Args:
        argv: arguments without the program's name.
        explain: finds words for what is wrong with the flags.

    Returns:
        The exit code: 0 done, 1 when an episode could not be saved (it stays in staging), 2 without lerobot,
        or when the flags are wrong, which is said in a line.

    Raises:
        SystemExit: aiorecord's own flags are wrong, or help was asked for.
        Exception: as raised by lerobot's script.
    """
    script = "lerobot.scripts.lerobot_record"
    return run_script("lerobot-record", script, script, argv, explain)


def run_script(
    program: str, script: str, opener: str, argv: Sequence[str], explain: Explain = as_it_is
) -> int:
    """Run a script of lerobot's with aiorecord's dataset writer; see `run`.

    Args:
        program: its name on the command line.
        script: the module with its ``main``.
        opener: the module that makes the datasets, see `recording_with`.
        argv: arguments without the program's name; see `SavingFlags` for those that are not lerobot's.
        explain: as of `run`.
    """
    flags, rest = parse_flags(argv, program)
    everything = HELP_ALL in rest
    if everything or {"-h", "--help"} & set(rest):
        sys.stdout.write(SHORT_HELP.format(program=program, examples=EXAMPLES[program]) + "\n" + HELP)
        if not everything:
            sys.stdout.write(f"\n`aiorecord {program} {HELP_ALL}` lists lerobot's flags too.\n")
            raise SystemExit(0)
        sys.stdout.write(f"\n{program}:\n")
        rest = [argument if argument != HELP_ALL else "--help" for argument in rest]
    if not is_installed():
        sys.stderr.write(f"aiorecord: lerobot is not installed. Install it: {install_hint('lerobot')}\n")
        return 2
    with (
        recording_with(import_module(opener), flags) as opened,
        _replaced(sys, "argv", [program, *rest]),  # lerobot reads them itself
        letter_by_letter(explain=explain),
    ):
        try:
            import_module(script).main()
        except FlagError as error:
            return _refuse(program, error)
        except OSError as error:
            # lerobot looks into the file of flags before it parses them.
            if error.filename is None or str(error.filename) not in values_of(CONFIG_FLAG, rest):
                raise
            return _refuse(program, explain(error, None))
    writers = [dataset.writer for dataset in opened if dataset.writer is not None]
    failed = [failure for writer in writers for failure in writer.failures]
    for failure in failed:
        sys.stderr.write(f"Episode {failure.episode_id} was not saved: {failure.error}\n")
    return 1 if failed else 0


def _refuse(program: str, what: object) -> int:
    """Say what is wrong with the flags; returns the exit code."""
    sys.stderr.write(f"aiorecord {program}: {plain(str(what))}\nTry `aiorecord {program} --help`.\n")
    return 2


def parse_flags(argv: Sequence[str], program: str = "lerobot-record") -> tuple[SavingFlags, list[str]]:
    """Remove `SavingFlags` from a command line; the rest is lerobot's.

    Raises:
        SystemExit: a value cannot be read.
    """
    parser = _SavingParser(program, add_help=False, allow_abbrev=False)
    _add(parser, "async_saving", type=_reader(_truth, "true or false"), nargs="?", const=True)
    _add(parser, "async_save_queue_size", type=_reader(int, "a whole number"))
    _add(parser, "async_save_timeout", type=_reader(float, "a number"))
    parser.set_defaults(**asdict(SavingFlags()))
    names = [*parser._option_string_actions, CONFIG_FLAG, HELP_ALL]
    known, rest = parser.parse_known_args(spelled(argv, names))
    return SavingFlags(**vars(known)), rest


@contextlib.contextmanager
def recording_with(module: Any, flags: SavingFlags | None = None) -> Iterator[list[AsyncLeRobotDataset]]:
    """Within the block, a script of lerobot's makes its datasets with aiorecord's writer.

    Args:
        module: the script, such as ``lerobot.scripts.lerobot_record`` or ``lerobot.rollout.context``; its
            name ``LeRobotDataset`` is replaced.
        flags: how episodes are saved.

    Yields:
        The datasets that were made so far.
    """
    opened: list[AsyncLeRobotDataset] = []
    with _replaced(module, "LeRobotDataset", _dataset_class(flags or SavingFlags(), opened)):
        yield opened


def _dataset_class(flags: SavingFlags, opened: list[AsyncLeRobotDataset]) -> type[AsyncLeRobotDataset]:
    from .dropin.lerobot_dataset import AsyncLeRobotDataset, writer_of

    class RecordingDataset(AsyncLeRobotDataset):
        """Saves in the background when a script calls `save_episode`. Its count includes pending saves."""

        resume_waits = not flags.async_saving
        recorder_options: ClassVar[dict[str, Any]] = {
            "save_queue_size": flags.async_save_queue_size,
            "save_timeout": flags.async_save_timeout,
        }

        @classmethod
        def _take_over(cls, dataset: Any, image_writer: tuple[int, int] | None) -> AsyncDatasetWriter:
            writer = super()._take_over(dataset, image_writer)
            opened.append(dataset)
            return writer

        @property
        def num_episodes(self) -> int:
            if self.writer is None or self.writer.is_finalized:
                return int(super().num_episodes)
            return self.writer.expected_episodes

        def save_episode(self, episode_data: Any = None, parallel_encoding: bool = True) -> None:
            writer = writer_of(self, "save_episode")
            if not flags.async_saving or not writer.save_behind(episode_data):
                super().save_episode(episode_data, parallel_encoding)

    return RecordingDataset


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, an attribute has another value."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _SavingParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_refuse(self.prog, message.removeprefix("argument ")))


def _add(parser: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Add a flag under its name, and also without ``dataset.``, as the proposal's pages write it."""
    parser.add_argument(f"--dataset.{name}", f"--{name}", dest=name, **options)


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _reader(read: Callable[[str], Any], what: str) -> Callable[[str], Any]:
    """A function for `argparse` that reads a value, and says what the flag takes if it cannot."""

    def reading(text: str) -> Any:
        try:
            return read(text)
        except (KeyError, ValueError):
            raise argparse.ArgumentTypeError(f"takes {what}, not {text!r}") from None

    return reading


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
