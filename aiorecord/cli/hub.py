"""Uploads a dataset to the Hugging Face Hub, through `huggingface_hub` (the extra ``hub``).

An upload is one commit on the Hub, so readers see the dataset before it or after it and nothing in between.
Files are sent before the commit, one by one, and the Hub keeps those it has; after a failure, the same upload
is run again. The local dataset is only read, never written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import yaml

from ..dataset.commit.rollback import counted_files
from ..dataset.exchange.pack_journal import is_decided
from ..dataset.exchange.replaced_videos import RECORD as REPLACED_RECORD
from ..dataset.format import layout, quality_log
from ..dataset.format.episodes import location_prefixes, referred_files
from ..dataset.format.info_json import DatasetInfo, parse_info, read_info
from ..dataset.format.own_files import OwnFiles
from ..errors import AiorecordError, ConfigError, DatasetError, StorageError
from ..options import check_repo_id
from ..system.installation import install_hint
from ..system.storage import MAX_JSON_BYTES, TEMPORARY_SUFFIX, storage_errors
from ..system.threads import run_left_behind

LICENSE = "apache-2.0"
"""Default licence in the dataset card, as in lerobot's."""

_SMALL_BYTES = 1 << 20
"""Files up to this size are read as a whole for sending, larger ones piece by piece."""

_NUMBERED = re.compile(r"(?:data|meta/episodes|videos/.+)/chunk-\d{3,}/file-\d{3,}\.(?:parquet|mp4)")

CARD = """---
{metadata}---

Demonstrations recorded with aiorecord, as a dataset of [LeRobot](https://github.com/huggingface/lerobot).
[Look at its episodes](https://huggingface.co/spaces/lerobot/visualize_dataset?path={repo_id}) in the browser,
or load them:

```python
from lerobot.datasets import LeRobotDataset

dataset = LeRobotDataset("{repo_id}")
```

## Contents

{episodes} episodes, {frames} frames at {fps} per second{robot}.

## Dataset Structure

[meta/info.json](meta/info.json):
```json
{info}
```
"""


def check_hub(repo_id: str) -> list[str]:
    """Check an upload as far as possible before anything is recorded. Sends nothing.

    Args:
        repo_id: the dataset's name on the Hub.

    Returns:
        Notes for the user, a line each.

    Raises:
        ConfigError: huggingface_hub is missing or in offline mode, or the Hub does not accept the name.
    """
    if find_spec("huggingface_hub") is None:
        raise ConfigError(
            f"Uploading needs huggingface_hub. Install it: {install_hint('hub')}",
            option="dataset.push_to_hub",
        )
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError

    check_repo_id(repo_id)
    try:
        _utils().validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"The Hub takes no such name: {error}", option="dataset.repo_id") from error
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(
            "HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it, or leave out push_to_hub.",
            option="dataset.push_to_hub",
        )
    if get_token() is None:
        return ["There is no Hugging Face token, the Hub may refuse the upload. `hf auth login` creates one."]
    return []


async def push(
    root: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    tags: Sequence[str] | None = None,
    license: str | None = LICENSE,
    info: DatasetInfo | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    at_end: Callable[[], None] = lambda: None,
) -> str:
    """Upload a dataset: create its repository, send files and card in one commit, tag the format's version.

    Data, videos and episode tables that an earlier upload left in the repository, and that are not part of
    this dataset, are deleted in the same commit; they stay in the repository's history.

    Cancelling it returns at once. The file under way may still be sent, but is not committed, unless the
    commit was being made just then.

    Args:
        root: the dataset's folder. Nothing may write into it meanwhile: the caller should have its lock.
        repo_id: ``user/name``, or ``name`` for the user who is logged in.
        private: make a new repository private or not; None leaves it to the Hub.
        tags: of the card, besides ``LeRobot``.
        license: of the card, one of the Hub's identifiers; None leaves it out.
        info: of the dataset, None reads it.
        on_progress: called from a thread with bytes done and bytes in all.
        at_end: called, perhaps from a thread, when the dataset's files are not read any more: also when
            cancelling has left the upload behind. It lets go of the dataset's lock.

    Returns:
        The dataset's address.

    Raises:
        DatasetError: there is no complete dataset, or no episode in it.
        StorageError: the upload failed; it says why and how to retry. The dataset is untouched.
    """
    stop = threading.Event()

    def work() -> str:
        try:
            return _Upload(root, repo_id, stop, on_progress or (lambda done, total: None)).run(
                info or read_info(root), private, tags or (), license
            )
        finally:
            at_end()

    try:
        # A slow network must not keep the operator from leaving, and an upload changes nothing here.
        return await run_left_behind(work, "aiorecord-hub")
    except AiorecordError:
        raise
    except Exception as error:
        # An HTTP client, a Rust library and the network each raise errors of their own.
        raise StorageError(
            f"{root} could not be uploaded to {repo_id}: {_reason(error)}\nNothing is lost, the dataset is "
            f"complete on this disk. Retry: {retry_command(root, repo_id, private, tags, license)}",
            path=root,
        ) from error
    finally:
        stop.set()


def retry_command(
    root: Path,
    repo_id: str,
    private: bool | None = None,
    tags: Sequence[str] | None = None,
    license: str | None = LICENSE,
) -> str:
    """The command that uploads a dataset, for a shell."""
    command = ["aiorecord", "push", str(root), f"--repo_id={repo_id}"]
    if private is not None:
        command.append(f"--private={str(private).lower()}")
    if tags:
        command.append(f"--tags={json.dumps(list(tags), ensure_ascii=False)}")
    if license != LICENSE:
        command.append(f"--license={license or 'none'}")
    return shlex.join(command)


def dataset_card(repo_id: str, info: DatasetInfo, tags: Sequence[str], license: str | None) -> str:
    """The README.md of a dataset on the Hub. Its metadata are those of lerobot's card.

    Args:
        repo_id: ``user/name``.
        info: of the dataset.
        tags: besides ``LeRobot``.
        license: one of the Hub's identifiers, None for none.
    """
    metadata: dict[str, Any] = {} if license is None else {"license": license}
    metadata |= {
        "task_categories": ["robotics"],
        "tags": list(dict.fromkeys(["LeRobot", *tags])),
        "configs": [{"config_name": "default", "data_files": "data/*/*.parquet"}],
    }
    return CARD.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True),
        repo_id=repo_id,
        episodes=info.total_episodes,
        frames=info.total_frames,
        fps=info.fps,
        robot=f", robot: {info.robot_type}" if info.robot_type else "",
        info=json.dumps(info.as_dict(), indent=4, ensure_ascii=False),
    )


def committed_files(root: Path, info: DatasetInfo) -> list[str]:
    """The files that make up the committed dataset: no staging, nothing temporary, nothing half committed.

    Returns:
        Paths relative to `root`, with ``/``.

    Raises:
        DatasetError: the dataset has no episode, is incomplete, was interrupted while it was packed, or holds
            foreign entries (a link, a pipe), see `OwnFiles`.
        StorageError: the disk refused.
    """
    if is_decided(root):
        raise DatasetError(f"{root} was interrupted. Finish it: aiorecord recover {root}", path=root)
    if not info.total_episodes:
        raise DatasetError(f"{root} holds no episode, there is nothing to upload.", path=root)
    episodes = counted_files(root, info)
    files = {file.path.relative_to(root).as_posix() for file in episodes}
    files |= referred_files(episodes, location_prefixes(info.video_keys))
    with OwnFiles(root) as own:
        # info.json, stats.json, tasks.parquet, other files that lerobot keeps there, and the quality record.
        for folder in ("meta", PurePosixPath(quality_log.PATH).parent.as_posix()):
            for name in own.names(folder):
                if f"{folder}/{name}" == REPLACED_RECORD:
                    continue  # of files that are not uploaded
                if not name.startswith(".") and not name.endswith(TEMPORARY_SUFFIX):
                    files.add(f"{folder}/{name}")
        for name in sorted(files):  # checked before anything is sent, and again when each is sent
            own.open(name).close()
    return sorted(files)


class _Upload:
    """One upload, in one thread."""

    def __init__(
        self, root: Path, repo_id: str, stop: threading.Event, on_progress: Callable[[int, int], None]
    ) -> None:
        from importlib.metadata import version

        from huggingface_hub import HfApi

        self.root = root
        self.repo_id = repo_id
        self.api = HfApi(library_name="aiorecord", library_version=version("aiorecord"))
        self._stop = stop
        self._on_progress = on_progress
        self._info: DatasetInfo | None = None

    def run(self, info: DatasetInfo, private: bool | None, tags: Sequence[str], license: str | None) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        names = committed_files(self.root, info)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_no_progress_bars())
            own = stack.enter_context(OwnFiles(self.root))
            # The Hub completes a bare name with the user's.
            url = self.api.create_repo(self.repo_id, repo_type="dataset", private=private, exist_ok=True)
            self.repo_id = url.repo_id
            operations: list[Any] = self._send(names, own, stack)
            assert self._info is not None  # every dataset has an info.json
            card = dataset_card(self.repo_id, self._info, tags, license)
            operations.append(CommitOperationAdd("README.md", card.encode()))
            operations += [
                CommitOperationDelete(name) for name in self._remote_files() if name not in set(names)
            ]
            self._check()
            commit = self.api.create_commit(
                self.repo_id,
                operations,
                repo_type="dataset",
                commit_message=f"Upload {info.total_episodes} episodes, {info.total_frames} frames",
            )
            self._tag(info.codebase_version, commit.oid)
        return str(url)

    def _send(self, names: list[str], own: OwnFiles, stack: contextlib.ExitStack) -> list[Any]:
        """Send the files that the Hub stores outside of git; the small ones go with the commit.

        The opened file is sent, even if another file has its name by now.
        """
        operations = []
        sizes = [(self.root / name).lstat().st_size for name in names]
        self._on_progress(0, sum(sizes))
        for number, name in enumerate(names):
            self._check()
            operation, file = self._operation(name, own)
            # One at a time, so that a cancelled upload, and the process, end soon.
            self.api.preupload_lfs_files(self.repo_id, [operation], repo_type="dataset")
            if file is not None:
                # An uploaded file is not read again; a small one is read for the commit.
                sent = getattr(operation, "_is_uploaded", False)
                file.close() if sent else stack.enter_context(file)
            operations.append(operation)
            self._check()
            self._on_progress(sum(sizes[: number + 1]), sum(sizes))
        return operations

    def _operation(self, name: str, own: OwnFiles) -> tuple[Any, BinaryIO | None]:
        """The operation that adds a file to the commit, and the open file if it must still be read."""
        from huggingface_hub import CommitOperationAdd

        file = own.open(name)
        try:
            size = os.fstat(file.fileno()).st_size
            if name == layout.INFO_PATH or size <= _SMALL_BYTES:
                with file, storage_errors(self.root / name, "read"):
                    content = file.read(MAX_JSON_BYTES + 1)
                if len(content) != min(size, MAX_JSON_BYTES + 1):
                    raise DatasetError(f"{self.root / name} is being changed.", path=self.root / name)
                if name == layout.INFO_PATH:
                    # The card shows the info.json that is sent, not an earlier one.
                    self._info = parse_info(content, self.root / name)
                return CommitOperationAdd(name, content), None
            # By the descriptor's path: the Hub's fast client (Xet) needs a path.
            path = Path(f"/proc/self/fd/{file.fileno()}")
            same = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
            return CommitOperationAdd(name, path if same else file), file
        except BaseException:
            file.close()
            raise

    def _remote_files(self) -> list[str]:
        """Numbered dataset files that the repository holds now."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            names = self.api.list_repo_files(self.repo_id, repo_type="dataset")
        except HfHubHTTPError as error:
            if error.response.status_code == 404:  # a repository without a commit
                return []
            raise
        return [name for name in names if _NUMBERED.fullmatch(name)]

    def _tag(self, tag: str, revision: str) -> None:
        """Tag the commit with the format's version: lerobot downloads the revision of that name."""
        from huggingface_hub.errors import RevisionNotFoundError

        with contextlib.suppress(RevisionNotFoundError):  # the first upload
            self.api.delete_tag(self.repo_id, tag=tag, repo_type="dataset")
        self.api.create_tag(self.repo_id, tag=tag, revision=revision, repo_type="dataset")

    def _check(self) -> None:
        if self._stop.is_set():
            raise asyncio.CancelledError


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """huggingface_hub's own bars would be drawn over the views."""
    utils = _utils()
    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _utils() -> Any:
    """`huggingface_hub.utils`, whose public names are not typed as such."""
    return import_module("huggingface_hub.utils")


def _reason(error: Exception) -> str:
    """The reason of a failure, in a line or two."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    text = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0]
    if status is None:
        return f"{text.rstrip('.') or type(error).__name__}."
    hint = ""
    if status in (401, 403):
        hint = " Log in with `hf auth login`, or set HF_TOKEN to a token that may write."
    return f"the Hub answered {status}: {text.rstrip('.')}.{hint}"
