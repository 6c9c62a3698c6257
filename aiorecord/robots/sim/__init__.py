"""A simulated robot, its operator and its cameras."""
