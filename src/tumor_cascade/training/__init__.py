"""Losses, the training engine and its checkpoints."""
