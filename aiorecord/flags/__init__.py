"""Reads command-line flags and config files, by the types of the fields that they set."""
