"""Environments: what the policy acts in over several turns."""

from fdt.environments.base import SPLITS, Environment, EnvironmentFault, Reply, Session
from fdt.environments.single import SingleTurn

__all__ = ["SPLITS", "Environment", "EnvironmentFault", "Reply", "Session", "SingleTurn"]
