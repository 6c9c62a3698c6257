"""Devices that fail: their last good values stand in, and they are brought back."""
