"""Replays recorded videos and trajectories as a robot and a teleoperator."""
