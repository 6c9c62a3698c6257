"""What aiorecord asks of the operating system: durable files, disk, memory, scheduling, threads, tasks."""
