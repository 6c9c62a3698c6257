"""Runs blocking robots and teleoperators, each in its own thread."""
