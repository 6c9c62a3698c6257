"""`Recorder` and `Episode`, the classes that an application records with."""
