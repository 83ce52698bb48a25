"""One small module for each verb of `fdt data` and of its neighbours; what they share is in `reading`."""
