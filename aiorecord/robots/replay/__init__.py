"""Recorded footage and trajectories as a robot and a teleoperator."""
