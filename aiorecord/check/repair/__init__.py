"""Repairing a dataset: what is kept is decided first, then written anew and exchanged."""
