"""The crash-safe log: one folder per captured episode, what is written into it, and how it is read back."""
