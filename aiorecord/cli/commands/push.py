"""`aiorecord push`: upload a dataset to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.progress import DownloadColumn, TimeRemainingColumn

from ...dataset.commit.lock import DatasetLock
from ...dataset.format.info_json import read_info
from ...errors import AiorecordError, ConfigError
from ...flags.yaml_values import read_yaml
from ...staging.folder import Staging
from ...system.threads import run_in_thread
from ..flag_parser import FlagParser
from ..hub import LICENSE, check_hub, push
from ..output import complain, dataset_folder, say
from ..table_console import progress_bar

EXAMPLES = """examples:
  aiorecord push data/pick-cube --repo_id=me/pick-cube
  aiorecord push data/pick-cube --repo_id=me/pick-cube --private=true --tags='[so101, cube]'

exit codes: 0 uploaded, 1 something failed (run it again), 2 wrong usage, 130 stopped by the user."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    parser = FlagParser(
        "aiorecord push",
        description="Upload the committed episodes of a dataset to the Hugging Face Hub, as one commit. "
        "Changes nothing on this machine, and can be run again at any time: files that the Hub has are not "
        "sent again.",
        examples=EXAMPLES,
    )
    parser.add_argument("root", type=dataset_folder, help="the dataset's folder")
    parser.add_argument("--repo_id", required=True, help="its name on the Hub, user/name")
    parser.add_argument(
        "--private",
        type=_flag,
        nargs="?",
        const=True,
        default=None,
        help="true or false: make a new repository private",
    )
    parser.add_argument("--tags", type=_names, default=None, help="tags of the dataset card: '[a, b]'")
    parser.rare(
        "--license", default=LICENSE, help=f"license of the dataset card (default {LICENSE}), or none"
    )
    arguments = parser.parse_args(argv)
    try:
        for note in check_hub(arguments.repo_id):
            say(f"note: {note}", file=sys.stderr)
        url = asyncio.run(
            push_dataset(
                arguments.root,
                arguments.repo_id,
                private=arguments.private,
                tags=arguments.tags,
                license=None if arguments.license.lower() == "none" else arguments.license,
            )
        )
    except AiorecordError as error:
        complain(error)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        say("Stopped. Run the command again to upload the rest.", file=sys.stderr)
        return 130
    say(f"uploaded  {url}")
    return 0


async def push_dataset(
    root: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    tags: Sequence[str] | None = None,
    license: str | None = LICENSE,
) -> str:
    """Upload one dataset under its lock, showing progress; returns its address.

    Raises:
        DatasetError: there is no complete dataset.
        DatasetLockedError: it is being recorded into.
        StorageError: the disk refused, or the upload failed.
    """
    await run_in_thread(read_info, root)  # before the lock makes a folder where there is no dataset
    lock = DatasetLock(root)
    is_uploading = False

    def let_go() -> None:
        lock.release()
        atexit.unregister(let_go)

    try:
        await run_in_thread(lock.acquire)
        info = await run_in_thread(read_info, root)
        if waiting := len(Staging(root).episode_paths()):
            say(
                f"note: {waiting} episode(s) wait in staging and are not uploaded; "
                f"`aiorecord recover {root}` finishes them",
                file=sys.stderr,
            )
        with progress_bar(DownloadColumn(), TimeRemainingColumn(), stderr=False) as progress:
            bar = progress.add_task(f"uploading {info.total_episodes} episodes", total=None)
            is_uploading = True
            atexit.register(let_go)  # an upload that is left behind ends with the program
            return await push(
                root,
                repo_id,
                private=private,
                tags=tags,
                license=license,
                info=info,
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
                at_end=let_go,
            )
    finally:
        if not is_uploading:
            await run_in_thread(lock.release)


def _flag(text: str) -> bool:
    value = {"true": True, "false": False, "yes": True, "no": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"true or false, not {text!r}")
    return value


def _names(text: str) -> list[str]:
    value: object = [text]
    with contextlib.suppress(yaml.YAMLError, RecursionError):
        read = read_yaml(text, list[str])
        if text.startswith("["):
            value = read
        elif isinstance(read, int | float) and not isinstance(read, bool):
            value = None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise argparse.ArgumentTypeError(f"a list of words like '[a, b]', not {text!r}")
    return value
