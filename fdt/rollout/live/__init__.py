"""Learning from a log while it grows."""

from fdt.rollout.live.follow import Follow

__all__ = ["Follow"]
