"""Reads a dataset for the check: data files, stored images, videos, metadata and the folder itself."""
