"""Guards: what is watched while training runs, and may stop it. `fdt.callbacks.Guards` runs them."""

from fdt.guards.answers import ConfidenceCollapse, HintLeak
from fdt.guards.base import ACTIONS, Guard
from fdt.guards.judge import JudgeSelfTest
from fdt.guards.numbers import DiversityCollapse, EntropyCollapse, KLLimit, LengthDrift

__all__ = [
    "ACTIONS",
    "ConfidenceCollapse",
    "DiversityCollapse",
    "EntropyCollapse",
    "Guard",
    "HintLeak",
    "JudgeSelfTest",
    "KLLimit",
    "LengthDrift",
]
