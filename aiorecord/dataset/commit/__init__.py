"""Commits an encoded episode into a dataset, all or nothing, with one writer at a time."""
