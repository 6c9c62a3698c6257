"""Encode plans: whether a camera is captured in its final codec, or losslessly and encoded later."""
