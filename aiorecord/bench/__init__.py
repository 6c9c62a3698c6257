"""Benchmarks: measure what this machine can record, by recording in separate processes.

`cell` defines what is measured and the result, `benchmark_images` makes the pictures, `bench_child` records
one cell with aiorecord, `runner` runs the cells one after another, `advice` draws conclusions, `plot` draws
the lateness. `aiorecord.lerobot.lerobot_bench_child` records a cell with lerobot.
"""
