"""LeRobotDataset v3.0 on disk: its format, commits, packing and recovery.

``root`` is a dataset's root folder throughout. What reads or writes files raises `StorageError` if the disk
refuses, and `DatasetError` if what it reads is damaged; docstrings list only what else may be raised.
"""
