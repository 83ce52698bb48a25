"""What watches a run: checkpoints, transcripts, the accounting of every row, warnings about terms without signal."""

from fdt.callbacks.accounting import Accounting
from fdt.callbacks.checkpoint import Checkpoint
from fdt.callbacks.evaluate import Evaluate
from fdt.callbacks.guards import Guards
from fdt.callbacks.interruption import Interruption, SavingInterruption
from fdt.callbacks.planning import PlanningMetrics
from fdt.callbacks.predict import WritePredictions
from fdt.callbacks.reliability import RunState, Watchdog
from fdt.callbacks.reset_reference import ResetReference
from fdt.callbacks.silent_terms import SilentTerms
from fdt.callbacks.skills import GrowSkills
from fdt.callbacks.step_log import StepLog
from fdt.callbacks.transcripts import Transcripts

__all__ = [
    "Accounting",
    "Checkpoint",
    "Evaluate",
    "GrowSkills",
    "Guards",
    "Interruption",
    "PlanningMetrics",
    "ResetReference",
    "RunState",
    "SavingInterruption",
    "SilentTerms",
    "StepLog",
    "Transcripts",
    "Watchdog",
    "WritePredictions",
]
