"""What keeps a run exact and bounded: its state beyond weights, steps that are not finite, ranks that hang."""

from fdt.callbacks.reliability.run_state import RunState
from fdt.callbacks.reliability.watchdog import Watchdog

__all__ = ["RunState", "Watchdog"]
