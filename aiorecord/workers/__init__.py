"""Encoder processes: a pool of them as an executor, and the watch over their jobs."""
