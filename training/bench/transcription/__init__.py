"""DCID and FCID written down naively, as a research program would be: the baseline of the bench.

float64, maps with channels first, sequences first, Python loops over codes and clips, every loss read at once. It
shares no code with the models of Tessera, so that a test can hold the two against each other.
"""
