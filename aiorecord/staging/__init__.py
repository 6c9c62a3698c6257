"""The crash-safe log: one folder per captured episode, and the code that writes it and reads it back."""
