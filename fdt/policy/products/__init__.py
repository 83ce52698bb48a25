"""Products of a linear layer: with adapters, and with frozen weights in another layout."""
