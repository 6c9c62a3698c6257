"""aiorecord behind lerobot's own dataset class, for scripts that stay synchronous."""
