"""Which prompts come next: by stages of data sets, in the order that a transfer matrix predicts to be best, or by how
well each prompt is answered."""

from fdt.rollout.curricula.admission import Admission
from fdt.rollout.curricula.base import Curriculum
from fdt.rollout.curricula.orders import ByTransfer, Interleaved, StructuredFirst
from fdt.rollout.curricula.stages import Stage, Stages
from fdt.rollout.curricula.transfer import TransferMatrix

__all__ = [
    "Admission",
    "ByTransfer",
    "Curriculum",
    "Interleaved",
    "Stage",
    "Stages",
    "StructuredFirst",
    "TransferMatrix",
]
