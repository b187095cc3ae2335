"""Checkpoints as the papers' authors released them, brought into Tessera's form."""
