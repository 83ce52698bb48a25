"""A long feedback file, read and checked once: later starts take its rows from the disk, one by one when asked for."""

from fdt.rollout.stored.load import load_splits
from fdt.rollout.stored.rows import StoredEpisodes, StoredTasks

__all__ = ["StoredEpisodes", "StoredTasks", "load_splits"]
