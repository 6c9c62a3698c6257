"""Handles failing devices: repeats their last good values, and reconnects them."""
