"""The record loop of `aiorecord record`, from Python, with callbacks.

    uv run python examples/async_recording.py [FOLDER]

Records three short episodes of the simulated arm, with a reset in between; asks for the second one to be
recorded again, as an operator would with the left arrow key.
"""

import asyncio
import sys
from pathlib import Path

import aiorecord
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator


async def main(root: Path) -> None:
    robot, teleop = SimRobot(SimRobotConfig()), SimTeleoperator(SimTeleopConfig())
    features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
    plan = aiorecord.SessionPlan("Pick up the cube", num_episodes=3, episode_time_s=2, reset_time_s=0.5)

    async with aiorecord.Recorder("me/callbacks", root=root, fps=30, features=features) as recorder:
        session = aiorecord.Session(recorder, robot, teleop, plan)
        unhappy = True

        def on_phase(phase: aiorecord.Phase) -> None:
            print(f"{phase.value}: take {session.machine.number} of {plan.num_episodes}")

        def on_tick(ticker: aiorecord.Ticker) -> None:
            nonlocal unhappy
            if unhappy and session.phase is aiorecord.Phase.RECORDING and len(session.records) == 1:
                unhappy = False
                session.command(aiorecord.Command.RERECORD)

        def on_episode(record: aiorecord.EpisodeRecord) -> None:
            late = record.lateness
            print(f"  kept {record.frames} frames, at worst {late['worst_ms']} ms late")

        session.events = aiorecord.SessionEvents(
            on_phase=on_phase,
            on_tick=on_tick,
            on_episode=on_episode,
            on_dropped=lambda number: print(f"  take {number} dropped, once more"),
        )
        await session.run()
        await recorder.drain()
        print(f"{recorder.get_status().episodes} episodes in {recorder.root}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/callbacks")))
