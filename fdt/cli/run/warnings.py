"""Warnings of libraries that do not apply here."""

from __future__ import annotations

import logging
import os
import warnings

NOISE = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*Trying to infer the `batch_size`.*",
    ".*LightningCLI's args parameter is intended.*",
    ".*is_gradient_checkpointing.*",
    ".*LeafSpec.*",
    ".*module\\(s\\) in eval mode.*",
    ".*Using ModelCheckpoint with manual optimization.*",
    ".*resuming from a checkpoint that ended before the epoch ended.*",
)


def filter_warnings() -> None:
    """Filters advice that does not apply here (our loaders make experience; steps are resumed exactly) and prints
    the warnings that remain as one line each."""
    from lightning.pytorch.utilities.rank_zero import rank_zero_module
    from transformers.utils.logging import disable_progress_bar

    rank_zero_module.log.addFilter(is_not_tip)
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def is_not_tip(record: logging.LogRecord) -> bool:
    """Whether a log line of Lightning is more than an advertisement of another package."""
    return "Tip: For seamless" not in str(record.msg)
