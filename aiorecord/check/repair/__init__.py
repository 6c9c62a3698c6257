"""Repairs a dataset: decides what is kept, writes new files, then exchanges them for the old ones."""
