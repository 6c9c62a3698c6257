"""Reading what a check looks at: data files, stored images, videos, metadata, the folder itself."""
