"""Packed slices between machines: content-addressed objects, published, verified and fetched."""
