"""What this machine has for recording, and what to do where something is missing: `aiorecord doctor`."""

from .findings import Finding, Level, as_json, as_text, blocks
from .look import look

__all__ = ["Finding", "Level", "as_json", "as_text", "blocks", "look"]
