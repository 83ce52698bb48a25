"""Loggers beside the CSV one, named in a config by dotted path; ``configs/logger/`` has an overlay for each."""

from fdt.loggers.base import RunLogger
from fdt.loggers.tensorboard import TensorBoard
from fdt.loggers.trackio import Trackio
from fdt.loggers.wandb import WandB
