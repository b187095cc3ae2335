"""`tessera bench train`: a training step of ours against a plain transcription of the same mathematics."""
