"""The parts of a saver: what is pending, the encoding of one save, the ordered committer."""
