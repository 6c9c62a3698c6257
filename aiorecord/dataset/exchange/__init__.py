"""Exchanges files of a dataset while others read it: the journal of the steps, and files kept for readers."""
