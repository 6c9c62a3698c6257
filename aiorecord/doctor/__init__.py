"""`aiorecord doctor`: reports what this machine has for recording, and what to do about what is missing."""

from .diagnosis import Finding, Level, as_json, as_text, blocks
from .examine import look

__all__ = ["Finding", "Level", "as_json", "as_text", "blocks", "look"]
