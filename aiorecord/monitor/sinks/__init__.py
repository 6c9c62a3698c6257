"""Where views go: Rerun, Foxglove, plain lines, a notebook."""
