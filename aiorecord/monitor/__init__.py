"""Snapshots of a session, and the views that show them."""
