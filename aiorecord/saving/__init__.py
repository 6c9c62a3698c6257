"""Ended episodes on their way into the dataset: the handles of saves, and the saver with its parts."""
