"""Exchanging files of a dataset while others read it: the journal that decides, what stays for readers."""
