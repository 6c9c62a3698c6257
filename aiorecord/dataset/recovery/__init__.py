"""What an interrupted recording left behind: found, judged, and made ready to be saved."""
