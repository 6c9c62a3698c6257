"""LeRobotDataset v3.0 on disk: its format, commits, packing and recovery."""
