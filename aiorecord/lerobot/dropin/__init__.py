"""Makes lerobot's own dataset class write through aiorecord, for scripts that stay synchronous."""
