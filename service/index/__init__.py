"""Retrieval on codes: SQLite keeps the truth, arrays in memory answer. Plain Python, no HTTP."""
