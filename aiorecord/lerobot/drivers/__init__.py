"""Runs LeRobot's robots, teleoperators, cameras and processors on the event loop."""
