"""Frozen feature extractors, as torch modules because they are exported."""
