"""Answers of a model with a plain cache, token by token."""
