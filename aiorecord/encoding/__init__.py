"""One captured episode made into final videos and statistics."""
