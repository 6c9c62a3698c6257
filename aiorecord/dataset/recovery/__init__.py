"""Finds the episodes that an interrupted recording left behind, and prepares them for saving."""
