"""Random damage: after a repair each row shows its own picture, and nothing whole is gone unasked."""

from __future__ import annotations

import random
import shutil

import av
import pytest
from damaged import FRONT, copy, record
from helpers import FEATURES, FPS, episodes_of, make_frame, picture, rows_of

from aiorecord.check.repair.repair_dataset import repair_dataset

WRIST = "observation.images.wrist"
TWO = {**FEATURES, WRIST: FEATURES[FRONT]}
LENGTHS = (6, 6, 5)


def seen(root) -> dict[tuple, tuple]:
    """The pictures of each row, by what the row says of itself."""
    videos: dict = {}
    found = {}
    rows = rows_of(root)
    for episode in episodes_of(root):
        mine = [row for row in rows if row["episode_index"] == episode["episode_index"]]
        for k, row in enumerate(mine):
            pictures = []
            for key in (FRONT, WRIST):
                place = tuple(episode[f"videos/{key}/{name}_index"] for name in ("chunk", "file"))
                if (key, place) not in videos:
                    path = root / f"videos/{key}/chunk-{place[0]:03}/file-{place[1]:03}.mp4"
                    with av.open(str(path)) as container:
                        videos[key, place] = [f.to_ndarray().tobytes() for f in container.decode(video=0)]
                first = round(episode[f"videos/{key}/from_timestamp"] * FPS)
                pictures.append(videos[key, place][first + k])
            found[tuple(row["observation.state"])] = tuple(pictures)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three packed episodes and three loose ones, two cameras."""

    def numbered(features, k, episode):
        return {**make_frame(k, episode), WRIST: picture(k + 30, episode)}

    def later(features, k, episode):
        return numbered(features, k, episode + len(LENGTHS))

    root = record(tmp_path_factory.mktemp("whole") / "set", TWO, LENGTHS, numbered)
    record(root, TWO, LENGTHS, later, resume=True, pack=False)
    return root


def hurt(root, chance: random.Random) -> None:
    names = ("data/*/*.parquet", "videos/*/*/*.mp4", "meta/episodes/*/*.parquet", "meta/tasks.parquet")
    files = sorted(path for name in names for path in root.glob(name))
    if chance.random() < 0.4:
        shutil.rmtree(root / "meta/episodes")
        files = [path for path in files if path.exists()]
    for path in chance.sample(files, chance.randint(1, 2)):
        data = bytearray(path.read_bytes())
        match chance.randrange(4):
            case 0:
                path.unlink()
            case 1:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                path.write_bytes(data)
            case 2:
                path.write_bytes(data[: chance.randrange(len(data))])
            case 3:
                other = chance.choice([p for p in files if p.suffix == path.suffix and p.exists()])
                path.write_bytes(other.read_bytes())


def intact(whole, root) -> list[tuple]:
    """Rows of the episodes of which every file is as it was."""
    found = []
    rows = rows_of(whole)
    for episode in episodes_of(whole):
        names = [f"data/chunk-{episode['data/chunk_index']:03}/file-{episode['data/file_index']:03}.parquet"]
        for key in (FRONT, WRIST):
            place = [episode[f"videos/{key}/{name}_index"] for name in ("chunk", "file")]
            names.append(f"videos/{key}/chunk-{place[0]:03}/file-{place[1]:03}.mp4")
        if all((root / n).exists() and (root / n).read_bytes() == (whole / n).read_bytes() for n in names):
            mine = [row for row in rows if row["episode_index"] == episode["episode_index"]]
            found += [tuple(row["observation.state"]) for row in mine]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_every_row_shows_its_own_picture(seed, whole, tmp_path, repairs_in_shared_pool):
    want = seen(whole)
    root = copy(whole, tmp_path / "set")
    hurt(root, random.Random(seed))
    untouched = intact(whole, root)
    result = repair_dataset(root)
    asked = result.refused
    if asked:
        result = repair_dataset(root, accept_loss=True)
    assert result.after.ok, result.as_dict()
    now = seen(root)
    assert now.items() <= want.items()
    if not asked:
        assert {row: want[row] for row in untouched}.items() <= now.items()
