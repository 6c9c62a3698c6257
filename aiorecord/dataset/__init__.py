"""LeRobotDataset v3.0: its files, the commit of an episode, packing, and recovery."""
