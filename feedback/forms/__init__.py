"""Episodes as tasks of annotation tools: Label Studio, Argilla."""
