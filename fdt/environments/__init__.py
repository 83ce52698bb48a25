"""Environments: what multi-turn episodes are played against."""

from fdt.environments.base import SPLITS, Environment, EnvironmentFault, Reply, Session
from fdt.environments.single import SingleTurn

__all__ = ["SPLITS", "Environment", "EnvironmentFault", "Reply", "Session", "SingleTurn"]
