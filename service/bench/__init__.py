"""`tessera bench serve`: what is served over HTTP against the bare graphs, on the same windows, in one run."""
