"""Encoder processes: a pool of them as an executor, and the monitoring of their jobs."""
