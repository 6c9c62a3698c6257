"""Makes the pictures of README from a real recording: the live view, and a moment of an episode.

    uv run python benchmarks/pictures.py

Records three short episodes with two cameras, as `aiorecord record` does, while this program looks at them.
It writes docs/live-view.svg (the view in the second episode, while the first is saved in the background) and
docs/episode.jpg (one moment of that episode, both cameras, decoded from the dataset). Run it on an idle
machine: late ticks are shown in the picture too.
"""

import argparse
import asyncio
import itertools
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

import aiorecord
from aiorecord.monitor.live_view import render_svg
from aiorecord.monitor.snapshot import Observer
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator
from aiorecord.robots.sim.sim_camera import CameraSpec

DOCS = Path(__file__).parent.parent / "docs"
FPS = 30


async def record(root, episode_s, size, width):
    """Record, and return the picture of the view and the lengths of the episodes."""
    cameras = {name: CameraSpec(width=size[0], height=size[1]) for name in ("front", "wrist")}
    robot, teleop = SimRobot(SimRobotConfig(cameras=cameras)), SimTeleoperator(SimTeleopConfig())
    features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
    plan = aiorecord.SessionPlan("Pick up the cube", 3, episode_s, reset_time_s=1)
    seen = []

    async with aiorecord.Recorder("demo/pick-cube", root=root, fps=FPS, features=features) as recorder:
        session = aiorecord.Session(recorder, robot, teleop, plan)
        observer = Observer(session)

        def on_tick(ticker):
            running = session.phase is aiorecord.Phase.RECORDING and session.machine.number == 2
            if running and not seen and ticker.seconds_left < 0.4 * episode_s:
                seen.append(observer.take())

        session.events = aiorecord.SessionEvents(on_tick=on_tick)
        records = await session.run()
        await recorder.drain()
    return render_svg(seen[0], width=width), [record.frames for record in records]


def frame_of(root, camera, index):
    """One frame of a camera, decoded from the dataset's first video file of it: RGB, (height, width, 3)."""
    path = min(root.glob(f"videos/observation.images.{camera}/*/*.mp4"))
    with av.open(str(path)) as video:
        frame = next(itertools.islice(video.decode(video=0), index, None))
        return frame.to_ndarray(format="rgb24")


def jpeg(picture):
    """A picture as the bytes of a JPEG file."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, FPS)
    encoder.options = {"qmin": "2", "qmax": "4"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return b"".join(bytes(packet) for packet in encoder.encode(frame.reformat(format="yuvj420p")))


def main():
    """Record and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for the pictures")
    parser.add_argument("--episode_s", type=float, default=8, help="seconds of each episode")
    parser.add_argument("--size", default="640x480", help="of the cameras' pictures")
    parser.add_argument("--columns", type=int, default=92, help="width of the view")
    flags = parser.parse_args()
    size = tuple(map(int, flags.size.split("x")))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "pick-cube")
        view, lengths = asyncio.run(record(root, flags.episode_s, size, flags.columns))
        index = lengths[0] + lengths[1] // 2
        still = np.concatenate([frame_of(root, camera, index) for camera in ("front", "wrist")], axis=1)
    flags.out.mkdir(parents=True, exist_ok=True)
    (flags.out / "live-view.svg").write_text(view, encoding="utf-8")
    (flags.out / "episode.jpg").write_bytes(jpeg(still))
    print(f"{flags.out / 'live-view.svg'}, {flags.out / 'episode.jpg'}: from episodes of {lengths} frames")


if __name__ == "__main__":
    main()
