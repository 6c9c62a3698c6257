"""LeRobotDataset v3.0 on disk: its files, tables and paths, read and written."""
