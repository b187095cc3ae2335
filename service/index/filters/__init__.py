"""Filters on metadata and modality: read, and evaluated to sets of rows."""
