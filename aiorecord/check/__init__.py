"""Verifies a LeRobot dataset on disk, whichever program wrote it, and repairs it."""
