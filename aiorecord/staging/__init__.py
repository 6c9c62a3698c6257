"""The crash-safe log: writers append whole records, readers give what is whole up to a torn end.

Writers raise `StorageError` where the disk refuses. What they were given is then not in the file, which ends
with a whole record as before, so that it can be tried again.

Readers take a missing file for an empty one, and read plain files only: a link, a pipe or a device is a
`DamageError`. A file that is there and cannot be read is a `StorageError` with `reading` set: its content is
unknown, which is neither its end nor damage.
"""
