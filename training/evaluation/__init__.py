"""Protocols, probes and codebook health."""
