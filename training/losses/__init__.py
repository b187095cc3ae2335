"""The terms of the training objective, each a small function of tensors."""
