"""Feedback distillation trainer: turns episodes into tensors, and tensors into gradients."""

__version__ = "0.1.0"
