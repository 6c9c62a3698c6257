"""What this machine can record: measured by recording, in processes of their own.

`cell` says what is measured and what comes out, `frames` makes the pictures, `child` records a cell with
aiorecord, `runner` runs cells one after another, `advice` says what follows, `plot` draws it.
`aiorecord.lerobot.lerobot_bench_child` records a cell with lerobot.
"""
