"""What watches a run: checkpoints, transcripts, the accounting of every row, warnings about silent terms."""

from fdt.callbacks.accounting import Accounting
from fdt.callbacks.checkpoint import Checkpoint
from fdt.callbacks.evaluate import Evaluate
from fdt.callbacks.guards import Guards
from fdt.callbacks.inert import InertTerms
from fdt.callbacks.phases import Phases
from fdt.callbacks.predict import WritePredictions
from fdt.callbacks.reset import ResetReference
from fdt.callbacks.transcripts import Transcripts

__all__ = ["Accounting", "Checkpoint", "Evaluate", "Guards", "InertTerms", "Phases", "ResetReference",
           "Transcripts", "WritePredictions"]  # fmt: skip
