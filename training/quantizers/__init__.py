"""Quantisers: continuous vectors -> rows of a codebook."""
