"""Deep verification of a dataset on disk, whoever wrote it, and its repair."""
