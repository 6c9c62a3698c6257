"""Blocking robots and teleoperators, each driven from a thread of its own."""
