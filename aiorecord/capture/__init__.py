"""Captures one live episode: its rows, its cameras with their queues and threads, and its journal."""
