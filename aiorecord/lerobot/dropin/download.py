"""Downloads an episode's rows from the Hugging Face Hub, through lerobot."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError


def download_episode(repo_id: str, root: str | Path | None, episode: int) -> Path:
    """Download the metadata and the rows of an episode, not its videos. Blocking.

    Args:
        repo_id: the dataset's name.
        root: the folder to download into; None means lerobot's cache.
        episode: its index.

    Returns:
        The folder with the dataset.

    Raises:
        ConfigError: there is no such dataset or episode, or the Hub cannot be reached.
    """
    from lerobot.datasets import LeRobotDataset

    try:
        dataset = LeRobotDataset(repo_id, root=root, episodes=[episode], download_videos=False)
    except Exception as error:  # errors of the Hub's client and of lerobot have no common base class
        raise ConfigError(
            f"{repo_id} is not on this machine and cannot be downloaded: {type(error).__name__}: {error}",
            option="dataset.repo_id",
        ) from error
    return Path(dataset.root)
