"""What is looked at once when a model is loaded: whether its log-probs are right here, and what of it can train."""
