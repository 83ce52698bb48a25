"""What `fdt annotate` and `fdt serve` share: who may speak to them, and how they are run."""
