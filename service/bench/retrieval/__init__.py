"""`tessera bench index`: the code index beside dense ones of equal embeddings."""
