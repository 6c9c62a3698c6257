"""What a viewer gets to see, and that it never holds up anybody."""

import importlib.util
import json
import logging
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from aiorecord import ConfigError
from aiorecord.monitor import displays
from aiorecord.monitor import viewer as viewer_module
from aiorecord.monitor.entities import entities, split_frame
from aiorecord.monitor.sinks import rerun_sink
from aiorecord.monitor.view import View
from aiorecord.monitor.viewer import CAPACITY, Viewer, check_viewer
from aiorecord.system.installation import install_hint

NAMES = ["shoulder.pos", "gripper.pos"]
RUNTIME = pytest.mark.leaves("eventpoll", "eventfd", "socket:")
"""The libraries of the viewers start a runtime once in a process, which keeps descriptors of its own."""

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (2,), "names": NAMES},
    "observation.force": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    "observation.images.front": {"dtype": "video", "shape": (4, 6, 3), "names": None},
    "observation.images.depth": {"dtype": "video", "shape": (4, 6, 1), "names": None},
    "observation.matrix": {"dtype": "float32", "shape": (2, 2), "names": None},
    "observation.note": {"dtype": "string", "shape": (1,), "names": None},
    "action": {"dtype": "float32", "shape": (2,), "names": NAMES},
}


def make_frame(k=0):
    return {
        "observation.state": np.array([k, k + 0.5], np.float32),
        "observation.force": np.array([1, 2, 3], np.float32),
        "observation.images.front": np.full((4, 6, 3), k, np.uint8),
        "observation.images.depth": np.full((4, 6, 1), 1000 + k, np.uint16),
        "observation.matrix": np.eye(2, dtype=np.float32),
        "observation.note": "text",
        "action": np.array([-k, 1], np.float32),
    }


def found(side, values, features=FEATURES):
    return {e.path: (e.kind, e.value.shape) for e in entities(side, values, features)}


# names and kinds


def test_a_frame_has_the_names_that_lerobot_shows():
    observation, action = split_frame(make_frame())
    assert found("observation", observation) == {
        "observation.shoulder.pos": ("numbers", (1,)),
        "observation.gripper.pos": ("numbers", (1,)),
        "observation.force": ("numbers", (3,)),
        "observation.front": ("image", (4, 6, 3)),
        "observation.depth": ("depth", (4, 6, 1)),
        "observation.matrix": ("numbers", (4,)),
    }
    assert found("action", action) == {
        "action.shoulder.pos": ("numbers", (1,)),
        "action.gripper.pos": ("numbers", (1,)),
    }


def test_flat_values_of_a_driver():
    flat = {
        "shoulder.pos": 1.5,
        "ready": True,
        "count": np.int64(3),
        "front": np.zeros((4, 6, 3), np.uint8),
        "chw": np.zeros((3, 4, 6), np.float32),
        "grey": np.zeros((4, 6), np.uint8),
        "nothing": None,
        "word": "x",
        "thing": object(),
        "five_channels": np.zeros((7, 6, 5)),
        "empty": np.zeros((0, 6, 3)),
        "list": [1, 2],
    }
    assert found("observation", flat, {}) == {
        "observation.shoulder.pos": ("numbers", (1,)),
        "observation.ready": ("numbers", (1,)),
        "observation.count": ("numbers", (1,)),
        "observation.front": ("image", (4, 6, 3)),
        "observation.chw": ("image", (4, 6, 3)),
        "observation.grey": ("depth", (4, 6, 1)),
        "observation.list": ("numbers", (2,)),
    }


def test_names_that_are_taken_are_not_taken_twice():
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "front"]},
        "observation.images.front": {"dtype": "video", "shape": (4, 6, 3), "names": None},
        "observation.a": {"dtype": "float32", "shape": (1,), "names": None},
    }
    values = {
        "observation.state": np.zeros(2, np.float32),
        "observation.images.front": np.zeros((4, 6, 3), np.uint8),
        "observation.a": np.ones(1, np.float32),
    }
    assert found("observation", values, features) == {
        "observation.state": ("numbers", (2,)),
        "observation.front": ("image", (4, 6, 3)),
        "observation.a": ("numbers", (1,)),
    }
    unnamed = {"action": np.zeros(2, np.float32)}
    assert found("action", unnamed, {}) == {"action": ("numbers", (2,))}


# the thread


class Sink:
    """Takes views when it is let to."""

    hint = None

    def __init__(self, note=None, opens=None, shows=None, blocked=False):
        self.note, self.opens, self.shows = note, opens, shows
        self.go = threading.Event()
        if not blocked:
            self.go.set()
        self.busy = threading.Semaphore(0)
        self.views = []
        self.closed = self.abandoned = False
        self.threads = set()

    def open(self):
        self.threads.add(threading.current_thread().name)
        if self.opens:
            raise self.opens
        return self.note

    def show(self, view):
        self.threads.add(threading.current_thread().name)
        self.busy.release()
        self.go.wait()
        if self.shows:
            raise self.shows
        self.views.append(view)

    def close(self):
        self.closed = True

    def abandon(self):
        self.abandoned = True


def started(sink):
    viewer = Viewer(sink)
    viewer.start()
    return viewer


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "aiorecord-viewer"]


def test_views_are_handed_over_without_a_copy_and_in_order():
    sink = Sink()
    viewer = started(sink)
    observations = [{"k": np.zeros(3)} for _ in range(CAPACITY)]
    for observation in observations:
        viewer.show(observation, {}, FEATURES)
    viewer.close()
    assert [view.observation is o for view, o in zip(sink.views, observations, strict=True)] == [True, True]
    assert (viewer.shown, viewer.dropped) == (2, 0)
    assert sink.closed
    assert not sink.abandoned
    assert sink.threads == {"aiorecord-viewer"}
    assert not alive()
    viewer.show({}, {}, {})  # after the end: nothing happens
    viewer.close()
    assert len(sink.views) == 2


def test_a_busy_viewer_loses_views_and_nobody_waits():
    sink = Sink(blocked=True)
    viewer = started(sink)
    viewer.show({"k": 0}, {}, {})
    sink.busy.acquire()  # the thread is in the sink now, and stays there
    for k in range(1, 100):
        viewer.show({"k": k}, {}, {})
    assert viewer.dropped == 99 - CAPACITY
    sink.go.set()
    viewer.close()
    assert [view.observation["k"] for view in sink.views] == [0, 1, 2]
    assert (viewer.shown, viewer.dropped) == (3, 97)
    assert sink.closed


def test_a_stuck_viewer_is_left_behind(monkeypatch, caplog):
    monkeypatch.setattr(viewer_module, "CLOSE_S", 0.01)
    sink = Sink(blocked=True)
    viewer = started(sink)
    viewer.show({}, {}, {})
    sink.busy.acquire()
    for _ in range(10):
        viewer.show({}, {}, {})
    viewer.close()
    viewer.close()
    assert sink.abandoned
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    (thread,) = alive()
    assert thread.daemon
    sink.go.set()
    thread.join()


def test_an_error_ends_the_views_but_not_the_recording(caplog):
    sink = Sink(shows=RuntimeError("the window is gone"))
    viewer = started(sink)
    viewer.show({}, {}, {})
    for thread in alive():
        thread.join()
    assert str(viewer.error) == "the window is gone"
    assert "the window is gone" in caplog.text
    for _ in range(10):
        viewer.show({}, {}, {})
    assert (viewer.shown, viewer.dropped) == (0, 0)
    viewer.close()


def test_what_keeps_it_from_opening():
    for error in (ConfigError("no such viewer"), OSError("no such viewer")):
        with pytest.raises(ConfigError, match="no such viewer"):
            started(Sink(opens=error))
        assert not alive()
    monkey = Sink(note="no display")
    viewer = started(monkey)
    viewer.show({}, {}, {})
    viewer.close()
    assert viewer.note == "no display"
    assert monkey.views == []


def test_what_is_not_installed_or_not_known(monkeypatch):
    with pytest.raises(ConfigError, match="rerun or foxglove") as caught:
        check_viewer("vnc")
    assert caught.value.option == "display_mode"
    monkeypatch.setattr(viewer_module, "find_spec", lambda name: None)
    for mode in ("rerun", "foxglove"):
        with pytest.raises(ConfigError, match=re.escape(install_hint("viz"))):
            Viewer.open(mode=mode)


def test_importing_it_costs_no_viewer():
    code = (
        "import sys, aiorecord.cli.commands.record; "
        "print([m for m in ('rerun', 'foxglove') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Rerun


@pytest.fixture
def rerun():
    return pytest.importorskip("rerun")


def recorded(path):
    """The rows of a recording by entity and component, and the entities without history."""
    experimental = pytest.importorskip("rerun.experimental")
    if not hasattr(experimental, "RrdReader"):
        pytest.skip("this rerun cannot read recordings back")
    rows, static = {}, set()
    for chunk in experimental.RrdReader(path).store().stream().to_chunks():
        batch = chunk.to_record_batch()
        entity = str(chunk.entity_path).removeprefix("/")
        if chunk.is_static:
            static.add(entity)
        for name in batch.schema.names:
            if ":" in name and not entity.startswith("__"):
                rows.setdefault((entity, name), []).extend(batch.column(name).to_pylist())
    return rows, static


def show_all(sink, views):
    viewer = Viewer(sink, capacity=len(views))
    viewer.start()
    for view in views:
        viewer.show(view.observation, view.action, view.features)
    viewer.close()
    assert viewer.error is None
    assert viewer.dropped == 0


@RUNTIME
@pytest.mark.parametrize("compressed", [False, True])
def test_what_rerun_gets(rerun, tmp_path, compressed):
    path = tmp_path / "views.rrd"
    sink = rerun_sink.RerunSink("test", compressed=compressed, connect=lambda stream: stream.save(path))
    show_all(sink, [View(*split_frame(make_frame(k)), FEATURES) for k in range(3)])
    rows, static = recorded(path)
    assert rows["observation.shoulder.pos", "Scalars:scalars"] == [[0.0], [1.0], [2.0]]
    assert rows["observation.gripper.pos", "Scalars:scalars"] == [[0.5], [1.5], [2.5]]
    assert rows["observation.force", "Scalars:scalars"] == [[1.0, 2.0, 3.0]] * 3
    assert rows["action.shoulder.pos", "Scalars:scalars"] == [[0.0], [-1.0], [-2.0]]
    assert static - {"__properties"} == {"observation.front", "observation.depth"}
    images = {name for entity, name in rows if entity == "observation.front"}
    if compressed:
        assert rows["observation.front", "EncodedImage:media_type"][-1] == ["image/jpeg"]
        assert "Image:buffer" not in images
    else:
        assert bytes(rows["observation.front", "Image:buffer"][-1][0]) == bytes([2] * 72)
    assert rows["observation.depth", "DepthImage:meter"][-1] == [1000.0]


@RUNTIME
def test_odd_names_and_depth_in_metres(rerun, tmp_path):
    path = tmp_path / "views.rrd"
    flat = {"left cam": np.zeros((4, 6, 3), np.float32), "a/b": 1.0, "depth": np.ones((4, 6), np.float32)}
    sink = rerun_sink.RerunSink("test", compressed=True, connect=lambda stream: stream.save(path))
    show_all(sink, [View({}, {}, {}), View(flat, {"ü": 1}, {})])
    rows, _ = recorded(path)
    assert rows["observation.depth", "DepthImage:meter"] == [[1.0]]
    assert {entity for entity, _ in rows} == {
        r"observation.left\ cam",
        "observation.a/b",
        "observation.depth",
        "action.ü",
    }


def test_rerun_without_a_display(rerun, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(displays.sys, "platform", "linux")
    viewer = Viewer.open()
    assert "--display_ip" in viewer.note
    viewer.show(*split_frame(make_frame()), FEATURES)
    viewer.close()
    assert (viewer.shown, viewer.dropped, viewer.error) == (0, 0, None)


def test_a_display_that_does_not_answer_is_told_before_anything_is_shown(rerun, monkeypatch, tmp_path):
    monkeypatch.setattr(displays.sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-7")
    monkeypatch.setenv("DISPLAY", ":4711")
    viewer = Viewer.open()
    assert "The display :4711 does not answer" in viewer.note
    viewer.close()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "wayland-7"))
        server.listen()
        assert displays.display_problem() is None


def test_where_an_x_server_listens():
    assert displays.x11_addresses(":3.0") == ["/tmp/.X11-unix/X3", "\0/tmp/.X11-unix/X3"]
    assert displays.x11_addresses("unix:3") == displays.x11_addresses(":3")
    assert displays.x11_addresses("localhost:10.0") == [("localhost", 6010)]
    assert displays.x11_addresses("/private/tmp/x:0") is None


def test_whether_a_viewer_elsewhere_is_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert displays.is_listening("127.0.0.1", port)
    assert not displays.is_listening("127.0.0.1", port)


def test_rerun_without_its_program(rerun, monkeypatch, tmp_path):
    monkeypatch.setattr(rerun_sink, "display_problem", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConfigError, match="Rerun viewer cannot be started"):
        Viewer.open(port=1)


# a remote viewer that is not there, or takes connections and then nothing: the process must end all the same
STUCK = """
import socket, sys, numpy as np
from aiorecord.monitor import viewer as v
from aiorecord.monitor.sinks import rerun_sink
v.CLOSE_S, rerun_sink.FLUSH_S = map(float, sys.argv[2:])
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
if sys.argv[1] == "gone":
    server.close()
viewer = v.Viewer.open(ip="127.0.0.1", port=port)
image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
for _ in range(50):
    viewer.show({"front": image}, {}, {})
viewer.close()
print("dropped", viewer.dropped > 0)
"""


@pytest.mark.parametrize("server", ["gone", "silent"])
@pytest.mark.parametrize("times", [("0.1", "2"), ("20", "0.1")], ids=["left behind", "flush given up"])
def test_a_process_ends_whatever_the_viewer_does(rerun, server, times):
    done = subprocess.run(
        [sys.executable, "-c", STUCK, server, *times], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "dropped True"


# Foxglove


@pytest.mark.skipif(importlib.util.find_spec("foxglove") is None, reason="needs foxglove-sdk")
@RUNTIME
@pytest.mark.parametrize("compressed", [False, True])
def test_what_foxglove_gets(tmp_path, compressed):
    import foxglove
    from foxglove.mcap import MCAPCompression, MCAPWriteOptions

    from aiorecord.monitor.sinks.foxglove_sink import FoxgloveSink

    sink = FoxgloveSink("test", port=0, compressed=compressed)
    assert sink.open() is None
    path = tmp_path / "views.mcap"
    options = MCAPWriteOptions(compression=None) if MCAPCompression else MCAPWriteOptions()
    with foxglove.open_mcap(path, context=sink._context, writer_options=options):
        sink.show(View(*split_frame(make_frame(2)), FEATURES))
    sink.close()
    content = path.read_bytes()
    for topic in (
        b"/observation/state",
        b"/action/state",
        b"/observation/images/front",
        b"/observation/images/depth",
    ):
        assert topic in content
    scalars = [{"label": "shoulder.pos", "value": -2.0}, {"label": "gripper.pos", "value": 1.0}]
    assert json.dumps({"scalars": scalars}).encode() in content
    assert b'{"label": "force_2", "value": 3.0}' in content
    assert b"16UC1" in content
    assert (b"jpeg" in content, b"rgb8" in content) == (compressed, not compressed)


@pytest.mark.skipif(importlib.util.find_spec("foxglove") is None, reason="needs foxglove-sdk")
@RUNTIME
def test_a_port_that_is_taken():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(ConfigError, match="cannot listen on 127"):
            Viewer.open(mode="foxglove", port=server.getsockname()[1])
    assert not alive()
