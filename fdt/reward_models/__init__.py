"""Graders that run a local model: a reward model, and a process reward of steps."""

from fdt.reward_models.process import ProcessReward
from fdt.reward_models.reward_model import RewardModel
from fdt.reward_models.scale import MinMax, Sigmoid, sigmoid

__all__ = ["MinMax", "ProcessReward", "RewardModel", "Sigmoid", "sigmoid"]
