"""A bank of skills that grows while a run goes on."""

from fdt.callbacks.skills.grow import GrowSkills

__all__ = ["GrowSkills"]
