"""The order of saves, what is left of them, and a limit to it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from helpers import FEATURES, FPS, H264, STATES, episodes_of, leaked, make_frame, record_episode, rows_of

from aiorecord import Recorder, RGBEncoderConfig
from aiorecord.media.video_file import count_packets
from aiorecord.monitor.snapshot import Observer
from aiorecord.saving.backlog import EncodeSpeed
from aiorecord.saving.ready_queue import MAX_OVERTAKEN, SaveQueue
from aiorecord.session import Command, Phase, Session, SessionEvents, SessionPlan
from aiorecord.testing import ControlledEncoder


def taken(queue):
    return [queue.get_nowait() for _ in range(queue.qsize())]


def test_the_shortest_goes_first_and_the_older_of_equals():
    queue = SaveQueue(10, len)
    for item in ("ccc", "a", "bb", "z", "yy"):
        queue.put_nowait(item)
    assert taken(queue) == ["a", "z", "bb", "yy", "ccc"]


def test_no_one_is_overtaken_for_ever():
    queue = SaveQueue(100, len)
    queue.put_nowait("long" * 10)
    order = []
    for k in range(2 * MAX_OVERTAKEN):
        queue.put_nowait(f"{k}")
        order.append(queue.get_nowait())
    assert order.index("long" * 10) == MAX_OVERTAKEN


async def test_the_queue_is_bounded_and_waits():
    queue = SaveQueue(2, len)
    assert queue.empty()
    queue.put_nowait("aa")
    queue.put_nowait("b")
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait("c")
    putting = asyncio.create_task(queue.put("c"))
    assert await queue.get() == "b"
    await putting
    assert [await queue.get(), await queue.get()] == ["c", "aa"]
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    await queue.put("x")
    assert await getting == "x"


def test_speed_counts_only_time_in_which_something_is_encoded():
    speed = EncodeSpeed()
    assert speed.per_second(0, 0) is None
    speed.began(10)
    assert speed.per_second(12, 40) == 20
    speed.ended(15, 100)
    assert speed.per_second(1000, 0) == 20
    speed.began(1000)
    speed.began(1000)
    assert speed.per_second(1005, 200) == pytest.approx(30, rel=0.2)
    speed.ended(1006, 130)
    speed.ended(1006, 0)  # it failed: its frames must be encoded again
    assert speed.per_second(2000, 0) > 0


def recorder_for(root, executor=None, **options):
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred"} | options
    return Recorder("a/b", root=root / "set", fps=FPS, features=FEATURES, encode_executor=executor, **options)


@pytest.mark.parametrize(("order", "encoded"), [("fifo", [9, 20, 5, 12, 3]), ("shortest", [9, 3, 5, 12, 20])])
async def test_save_order_decides_what_is_encoded_next_and_not_what_is_committed(tmp_path, order, encoded):
    lengths = [9, 20, 5, 12, 3]

    with ControlledEncoder(held=True) as executor:
        async with recorder_for(tmp_path, executor, save_order=order) as recorder:
            saves = []
            for e, length in enumerate(lengths):
                saves.append((await record_episode(recorder, length, e)).save)
                while e == 0 and saves[0].encoding is None:  # it is the one under way
                    await asyncio.sleep(0.001)
            for save in saves:
                await save.durable()
            executor.let(len(lengths))
            results = [await save for save in saves]
        assert executor.lengths == encoded
        assert [r.episode_index for r in results] == [0, 1, 2, 3, 4]
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == lengths


@pytest.mark.parametrize("kind", ["default", "threads", "processes"])
@pytest.mark.parametrize("vcodec", ["libsvtav1", "h264"])
async def test_encodes_run_on_any_executor(tmp_path, kind, vcodec):
    executor = {
        "default": lambda: None,
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
    }[kind]()

    async with recorder_for(
        tmp_path, executor, rgb_encoder=RGBEncoderConfig(vcodec=vcodec), encode_workers=2
    ) as recorder:
        for e in range(3):
            await record_episode(recorder, 6 + e, e)
    assert leaked() == (set(), set())
    if executor is not None:
        assert executor.submit(len, "it is still the caller's").result() == 24
        executor.shutdown()
    root = tmp_path / "set"
    assert [e["length"] for e in episodes_of(root)] == [6, 7, 8]
    assert len(rows_of(root)) == 21
    assert sum(count_packets(p) for p in (root / "videos").rglob("*.mp4")) == 21


async def test_the_status_says_what_is_left(tmp_path):
    with ControlledEncoder(held=True) as executor:
        async with recorder_for(tmp_path, executor) as recorder:
            assert recorder.get_status().backlog.frames == 0
            saves = [(await record_episode(recorder, 10, e)).save for e in range(3)]
            for save in saves:
                await save.durable()
            status = recorder.get_status()
            assert (status.backlog.frames, status.backlog.seconds) == (30, None)
            ready = await recorder.core.standby.wait()  # the next episode's folder is there by then
            on_disk = sum(p.stat().st_size for p in (tmp_path / "set/.aiorecord").rglob("*.frames")) - sum(
                p.stat().st_size for p in ready.path.glob("*.frames")
            )
            assert 0.5 * on_disk < status.backlog.bytes <= on_disk
            executor.let(1)
            await saves[0]
            backlog = recorder.get_status().backlog
            assert backlog.frames == 20
            assert backlog.seconds > 0
            assert backlog.bytes < status.backlog.bytes
            assert recorder.saver.get_status()["backlog_frames"] == 20
            executor.let(2)
        assert recorder.get_status().backlog.frames == 0


async def test_what_is_captured_live_is_no_backlog_for_the_encoders(tmp_path):
    with ControlledEncoder(held=True) as executor:
        async with recorder_for(tmp_path, executor, encode="live") as recorder:
            save = (await record_episode(recorder, 10)).save
            await save.durable()
            backlog = recorder.get_status().backlog
            assert (backlog.frames, backlog.seconds) == (0, 0)
            assert backlog.bytes > 0
            executor.let(1)


async def test_a_full_backlog_makes_the_next_episode_wait(tmp_path):
    with ControlledEncoder(held=True) as executor:
        async with recorder_for(tmp_path, executor, max_backlog_gb=1e-9) as recorder:
            assert not recorder.backlog_is_full
            first = (await record_episode(recorder, 10, 0, hold=True)).save
            await first.durable()
            assert recorder.backlog_is_full
            second = asyncio.create_task(record_episode(recorder, 5, 1))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not second.done()
            assert not first.held  # its commit is what makes room
            executor.let(1)
            await second
            assert first.stage == "committed"
            executor.let(1)
    assert [e["length"] for e in episodes_of(tmp_path / "set")] == [10, 5]


async def test_closing_ends_the_waiting(tmp_path):
    with ControlledEncoder(held=True) as executor:
        recorder = recorder_for(tmp_path, executor, max_backlog_gb=1e-9)
        await recorder.open()
        await (await record_episode(recorder, 10, 0)).save.durable()
        waiting = asyncio.create_task(record_episode(recorder, 5, 1))
        await asyncio.sleep(0)
        closing = asyncio.create_task(recorder.aclose(drain=False))
        with pytest.raises(Exception, match="closed"):
            await waiting
        executor.let(1)
        await closing
    assert leaked() == (set(), set())


async def test_states_only_never_wait(tmp_path):
    async with Recorder(
        "a/b", root=tmp_path / "set", fps=FPS, features=STATES, max_backlog_gb=1e-9
    ) as recorder:
        async with recorder.episode("x") as episode:
            episode.add_frame(make_frame(0, features=STATES))
        await recorder.wait_for_room()


class Robot:
    """Its own teleoperator, with a camera."""

    name = "counter"
    step = 0

    async def connect(self):
        pass

    async def disconnect(self):
        pass

    async def get_observation(self):
        self.step += 1
        return {k: v for k, v in make_frame(self.step).items() if k != "action"}

    async def get_action(self):
        return {"action": make_frame(self.step)["action"]}

    async def send_action(self, action):
        return action


@pytest.mark.parametrize("stop", [False, True])
async def test_a_session_shows_the_waiting_and_can_be_stopped_in_it(tmp_path, steady_clock, stop):
    robot = Robot()
    with ControlledEncoder(held=True) as executor:
        recorder = Recorder(
            "a/b",
            root=tmp_path / "set",
            fps=FPS,
            features=FEATURES,
            encode_executor=executor,
            rgb_encoder=H264,
            encode="deferred",
            max_backlog_gb=1e-9,
        )
        async with recorder:
            session = Session(recorder, robot, robot, SessionPlan("x", 2, 0.2, 0))
            phases, seen = [], []

            def on_phase(phase):
                phases.append(phase)
                if phase is Phase.WAITING:
                    seen.append(Observer(session).take())
                    if stop:
                        session.command(Command.END_EARLY)  # means nothing here
                        session.command(Command.STOP)
                    else:
                        executor.let(1)

            session.events = SessionEvents(on_phase=on_phase)
            records = await session.run()
            assert seen[0].number == 2
            assert seen[0].backlog.bytes > 0
            assert Phase.WAITING in phases
            assert len(records) == (1 if stop else 2)
            executor.let(2)
