"""What this machine has for recording, and what to do where something is missing: `aiorecord doctor`."""

from .diagnosis import Finding, Level, as_json, as_text, blocks
from .examine import look

__all__ = ["Finding", "Level", "as_json", "as_text", "blocks", "look"]
