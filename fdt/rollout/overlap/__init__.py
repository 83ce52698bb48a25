"""Rollouts that are made ahead, while the policy learns from those before them."""

from fdt.rollout.overlap.build import build_prefetcher
from fdt.rollout.overlap.loader import RolloutLoader
from fdt.rollout.overlap.prefetcher import Prefetcher

__all__ = ["Prefetcher", "RolloutLoader", "build_prefetcher"]
