"""Command-line flags and config files, read by the types of the fields that they are for."""
