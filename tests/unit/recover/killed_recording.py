"""What the recording that was killed holds, and the program that records it."""

from pathlib import Path

CHILD = Path(__file__).with_name("recording_child.py")
ENDED, FRAMES = 2, 12
"""Ended episodes, and frames of each; of the interrupted one too."""
