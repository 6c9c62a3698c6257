"""Saves ended episodes: the handles of saves, and the saver with its parts."""
