"""The benchmark measures what it says: real recordings of small cells, in processes of their own."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from aiorecord.bench import advice
from aiorecord.bench.bench_child import note_times
from aiorecord.bench.benchmark_images import FrameRing, make_ring
from aiorecord.bench.cell import SYSTEMS, Cell, Measurement, Order
from aiorecord.bench.plot import check_plot, draw
from aiorecord.bench.runner import grid, measure, measure_all
from aiorecord.cli import main
from aiorecord.cli.commands.bench import grid_table
from aiorecord.cli.table_console import output_console
from aiorecord.errors import ConfigError, StateError

SMALL = Cell(cameras=2, width=64, height=48, codec="h264", episodes=2, seconds=0.4, encode="deferred")


def measured(cell=SMALL, system="aiorecord", **values):
    ticks = cell.episodes * cell.frames_per_episode
    frames = ticks * cell.cameras
    given = {"frames": frames, "rows": frames, "video_frames": frames, "recording_s": ticks / cell.fps}
    given |= {"late_ms": [0.2] * ticks, "tick_s": [n / cell.fps for n in range(ticks)], "drain_s": 2.0}
    return Measurement(system, cell, **(given | values))


def test_a_cell_is_recorded_and_counted():
    result = measure("aiorecord", SMALL)
    assert result.error is None
    assert result.frames == result.rows + result.missed * SMALL.cameras
    assert result.lost == 0
    assert result.video_frames == result.rows > 0
    ticks = result.rows // SMALL.cameras
    assert len(result.late_ms) == len(result.tick_s) == len(result.add_frame_ms) == ticks
    assert result.tick_s == sorted(result.tick_s)
    assert len(result.dead_s) == 1
    assert result.cpu_s > 0
    assert result.drain_s > 0
    assert 0 < result.backlog_frames <= result.rows
    assert result.peak_rss_bytes > 10 << 20
    assert set(result.plan) == set(SMALL.features) - {"action", "observation.state"}


def test_the_encoder_alone_sees_the_same_frames():
    result = measure("bare", SMALL)
    assert result.error is None
    assert result.rows == result.video_frames == SMALL.cameras * SMALL.frames_per_episode
    assert result.cpu_s > 0


def test_what_cannot_be_recorded_is_a_result_with_a_reason():
    result = measure("aiorecord", dataclasses.replace(SMALL, codec="h264_nvenc", encode="deferred"))
    assert result.error is not None
    assert "h264_nvenc" in result.error
    assert not advice.is_on_time(result)


def test_a_source_that_is_not_there_is_a_result_too(tmp_path):
    result = measure("bare", dataclasses.replace(SMALL, source=f"video:{tmp_path / 'kitchen.mp4'}"))
    assert "kitchen.mp4" in result.error


def test_a_child_that_dies_is_an_error_with_its_last_words(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "bare", "aiorecord.no_such_module")
    with pytest.raises(StateError, match="no_such_module"):
        measure("bare", SMALL)


def test_systems_are_interleaved():
    order = []
    cells = [dataclasses.replace(SMALL, cameras=n, episodes=1, seconds=0.1) for n in (1, 2)]
    results = measure_all(cells, ["bare"], repeat=2, on_start=lambda system, cell: order.append(cell.cameras))
    assert order == [1, 2, 1, 2]
    assert [m.cell for m in results] == cells * 2


def test_the_grid_is_every_combination():
    cells = grid([1, 2], [(64, 48), (96, 64)], ["h264", "libsvtav1"], SMALL)
    assert len(set(cells)) == 8
    assert all(cell.seconds == SMALL.seconds and cell.encode == "deferred" for cell in cells)


@pytest.mark.parametrize(
    "wrong", [{"cameras": 0}, {"fps": 0}, {"episodes": 0}, {"seconds": 0}, {"width": 63}, {"height": 2}]
)
def test_cells_that_cannot_be(wrong):
    with pytest.raises(ConfigError):
        dataclasses.replace(SMALL, **wrong)


def test_the_pictures_move_without_a_jump():
    ring = FrameRing({"a": [np.full((2, 2, 3), n, np.uint8) for n in range(4)]})
    assert [int(ring.picture("a", n)[0, 0, 0]) for n in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert ring.nbytes == 4 * 12


def test_pictures_of_one_frame():
    ring = FrameRing({"a": [np.zeros((2, 2, 3), np.uint8)]})
    assert ring.picture("a", 7).shape == (2, 2, 3)


def test_cameras_see_different_pictures():
    ring = make_ring(SMALL)
    frame = ring.frame(3)
    assert not np.array_equal(frame["observation.images.front"], frame["observation.images.wrist"])
    assert frame["action"].dtype == np.float32


def test_an_unknown_source():
    with pytest.raises(ConfigError, match="sim"):
        dataclasses.replace(SMALL, source="webcam")


def test_files_between_the_processes(tmp_path):
    order = Order("bare", SMALL, tmp_path)
    order.write(tmp_path / "order.json")
    assert Order.read(tmp_path / "order.json") == order
    result = measured(dead_s=[0.001])
    result.write(tmp_path / "result.json")
    assert Measurement.read(tmp_path / "result.json") == result


def test_times_between_episodes():
    result = measured()
    note_times(result, [[1_000_000_000, 1_033_000_000], [1_067_000_000, 1_100_000_000]])
    assert result.dead_s == [pytest.approx(0.034)]
    assert result.recording_s == pytest.approx(0.1 + 1 / 30)
    assert result.tick_s == [pytest.approx(t) for t in (0, 0.033, 0.067, 0.1)]


def test_what_is_on_time():
    assert advice.is_on_time(measured())
    assert not advice.is_on_time(measured(late_ms=[20.0] * 24))
    assert not advice.is_on_time(measured(rows=20, video_frames=20))
    assert not advice.is_on_time(measured(video_frames=measured().rows - 3))
    assert not advice.is_on_time(measured(error="no such codec"))


def test_recommendations_name_what_keeps_up():
    av1 = dataclasses.replace(SMALL, codec="libsvtav1")
    lines = advice.recommendations(
        [measured(drain_s=0.1), measured(av1), measured(system="lerobot-png"), measured(system="bare")]
    )
    assert lines == ["2x64x48@30: h264 saved at once; libsvtav1 finishes 2.5 min after each minute recorded"]
    assert "too much" in advice.recommendations([measured(error="x")])[0]


def test_the_table_of_the_grid_fits_where_it_is_printed(capsys):
    cells = [dataclasses.replace(SMALL, cameras=3, width=1280, height=720, codec="libsvtav1")]
    slow = measured(cells[0], late_ms=[2345.6] * 12, dead_s=[12.3456], drain_s=70.0)
    table = grid_table(cells, [slow])
    Console(width=80, force_terminal=False).print(table)
    printed = capsys.readouterr().out
    output_console().print(table)
    for text in (printed, capsys.readouterr().out):
        assert "3x1280x720@30 libsvtav1" in text
        assert "min/min" in text
        assert " late" in text
        assert "…" not in text


def test_the_median_over_rounds():
    rounds = [measured(drain_s=value) for value in (1.0, 9.0, 2.0)]
    assert advice.middle(rounds, "aiorecord", SMALL)["drain_s"] == 2.0
    assert advice.middle(rounds, "bare", SMALL) == {}
    # 12 ticks of 2 cameras in 2 episodes, at 10 ms each, on two cores.
    assert advice.drain_floor_s(48, {"cpu_ms_per_frame": 10.0}, 2) == pytest.approx(0.24)


def test_a_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    draw([measured(), measured(system="lerobot-png")], tmp_path / "late.svg")
    assert "<svg" in (tmp_path / "late.svg").read_text()
    with pytest.raises(ConfigError, match="nothing to draw"):
        draw([measured(late_ms=[])], tmp_path / "none.svg")


def test_a_plot_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="must end in"):
        check_plot(tmp_path / "late.txt")


def test_the_command(tmp_path, capsys):
    arguments = ["--cameras=1", "--sizes=64x48", "--codecs=h264", "--episodes=1", "--seconds=0.3"]
    assert main(["bench", *arguments, f"--json={tmp_path / 'bench.json'}", f"--folder={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "1x64x48@30 h264" in printed
    assert "recommended:" in printed
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [m["system"] for m in report["measurements"]] == ["aiorecord", "bare"]
    assert report["measurements"][0]["lost"] == 0
    assert len(report["measurements"][0]["late_ms"]) == report["measurements"][0]["rows"]
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.parametrize(
    "arguments", [["--sizes=63x48"], ["--json=/no/such/folder/x.json"], ["--plot=late.txt"], ["--source=cam"]]
)
def test_wrong_usage(arguments, capsys):
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.startswith("aiorecord: ")
