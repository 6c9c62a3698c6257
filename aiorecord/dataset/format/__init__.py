"""Reads and writes LeRobotDataset v3.0 on disk: its files, tables and paths."""
