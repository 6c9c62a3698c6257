"""Encodes one captured episode into final videos and statistics."""
