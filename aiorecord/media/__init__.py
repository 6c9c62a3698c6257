"""Everything that knows libav: encoders, codec trials, pixel formats, depth, video files."""
