"""`Recorder` and `Episode`: what an application records with."""
