"""Critics that run a local model: a reward model, and a process reward of steps."""

from fdt.critics.process import ProcessReward
from fdt.critics.reward_model import RewardModel
from fdt.critics.scale import MinMax, Scale, Sigmoid

__all__ = ["MinMax", "ProcessReward", "RewardModel", "Scale", "Sigmoid"]
