"""Record from a web application: buttons in a page start and end episodes, and the page shows the events.

    uv run --with 'fastapi[standard]' fastapi run examples/web_app.py

One recorder lives as long as the application. A task on the server's own loop runs the robot; requests
control it, and a WebSocket passes on every event of the recorder. The arm is simulated: put your robot in
`make_app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

import aiorecord
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator

PAGE = """<!doctype html><title>Record</title>
<style>body{font:16px system-ui;margin:2em} pre{white-space:pre-wrap}</style>
<button onclick="post('/episode?task=Pick+up+the+cube')">Start</button>
<button onclick="post('/episode/end')">End and keep</button>
<button onclick="post('/episode/end?keep=false')">Discard</button><pre id="log"></pre>
<script>
const log = (text) => document.getElementById("log").prepend(text + "\\n");
const post = async (url) => {
  const answer = await fetch(url, {method: "POST"});
  if (!answer.ok) log((await answer.json()).detail);
};
const socket = new WebSocket(`ws://${location.host}/events`);
socket.onmessage = (message) => {
  const {event, ...more} = JSON.parse(message.data);
  const facts = Object.entries(more).filter(([, value]) => value !== null && String(value) !== "");
  log([event, ...facts.map(([name, value]) => `${name} ${value}`)].join(" · "));
};
</script>"""


class Station:
    """A connected robot, and the episode that it records on request."""

    def __init__(self, recorder: aiorecord.Recorder, robot: SimRobot, teleop: SimTeleoperator) -> None:
        self.recorder = recorder
        self.robot = robot
        self.teleop = teleop
        self._ticker: aiorecord.Ticker | None = None
        self._recording: asyncio.Task[None] | None = None
        self._keep = True
        self._ending = False

    @property
    def is_recording(self) -> bool:
        return self._recording is not None and not self._recording.done()

    def start(self, task: str) -> None:
        if self.is_recording:
            raise HTTPException(409, "An episode is being recorded; end it first.")
        self._keep, self._ending = True, False
        self._recording = asyncio.create_task(self._record(task), name="record")

    async def end(self, keep: bool) -> None:
        """Return when the episode has ended; it is saved while the next one may begin."""
        if self._recording is None or not self.is_recording:
            raise HTTPException(409, "No episode is being recorded.")
        self._keep, self._ending = keep, True
        if self._ticker is not None:
            self._ticker.end()
        await self._recording

    async def _record(self, task: str) -> None:
        async with self.recorder.episode(task=task) as episode:
            self._ticker = self.recorder.ticks()
            if self._ending:  # while the episode was waiting to begin
                self._ticker.end()
            async for _ in self._ticker:
                frame = await aiorecord.control_step(self.robot, self.teleop, self.recorder.features)
                episode.add_frame(frame)
            self._ticker = None
            if not self._keep or not episode.frames:
                episode.discard()

    async def aclose(self) -> None:
        if self.is_recording:
            await self.end(keep=True)


def make_app(root: Path) -> FastAPI:
    """The application; its dataset is in `root`."""
    stations: list[Station] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        robot, teleop = SimRobot(SimRobotConfig()), SimTeleoperator(SimTeleopConfig())
        features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
        async with contextlib.AsyncExitStack() as stack:
            for device in (robot, teleop):
                await device.connect()
                stack.push_async_callback(device.disconnect)
            resume = (root / "meta" / "info.json").exists()
            recorder = await stack.enter_async_context(
                aiorecord.Recorder("me/web", root=root, fps=30, features=features, resume=resume)
            )
            recorder.note_robot(robot)
            station = Station(recorder, robot, teleop)
            stations.append(station)
            stack.push_async_callback(station.aclose)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    @app.post("/episode")
    async def start(task: str) -> dict[str, Any]:
        stations[-1].start(task)
        return {"recording": task}

    @app.post("/episode/end")
    async def end(keep: bool = True) -> dict[str, Any]:
        await stations[-1].end(keep)
        return {"kept": keep}

    @app.get("/status")
    async def status() -> dict[str, Any]:
        now = stations[-1].recorder.get_status()
        return {
            "recording": stations[-1].is_recording,
            "frames": now.episode.frames if now.episode else 0,
            "episodes": now.episodes,
            "saving": [{"task": s.task, "stage": s.stage, "progress": s.progress} for s in now.pending],
        }

    @app.websocket("/events")
    async def events(socket: WebSocket) -> None:
        await socket.accept()
        stream = stations[-1].recorder.events()
        await socket.send_json({"event": "Connected"})
        with contextlib.suppress(WebSocketDisconnect):
            async for event in stream:
                await socket.send_json(event.as_dict())

    return app


app = make_app(Path(os.environ.get("AIORECORD_ROOT", "data/web")))
