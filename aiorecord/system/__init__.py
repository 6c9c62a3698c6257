"""Wrappers around the operating system: durable files, disk, memory, scheduling, threads, tasks."""
