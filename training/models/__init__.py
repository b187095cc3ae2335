"""Encoders, decoders and the methods that are made of them."""
