"""Destinations of views: Rerun, Foxglove, plain lines, a notebook."""
