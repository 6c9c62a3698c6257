"""Views of a recording: snapshots, the terminal view, reports, and external viewers."""
