"""Feedback distillation trainer: turns episodes into tensors, and tensors into gradients."""

import os

__version__ = "0.2.0"

# Large tensors in pages of 2 MiB where the kernel offers them on request (Linux): a page fault for every 4 KiB is most
# of what elementwise work on logits costs on a CPU. torch reads this at its first allocation; a value of yours stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
