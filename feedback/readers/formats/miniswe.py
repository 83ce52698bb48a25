"""Trajectories of mini-swe-agent (`.traj.json`): the messages of a run, with notes of the program, and how it ended."""

from __future__ import annotations

from typing import Any

from feedback.readers.fields import Fields
from feedback.readers.formats.episodes import Episodes
from feedback.types import Episode

PREFIX = "mini-swe-agent"


class MiniSWEAgent(Episodes):
    """One run as an episode: what stands before the first answer is the prompt."""

    name = "mini-swe-agent"
    columns = ("messages", "trajectory_format")
    allow_unknown = True

    def is_match(self, record: dict[str, Any]) -> bool:
        """The format that the record names."""
        return super().is_match(record) and str(record["trajectory_format"]).startswith(PREFIX)

    def parse(self, fields: Fields) -> list[Episode]:
        """One episode, by the name of its instance."""
        name = fields.get_label("id") or fields.get_label("instance_id")
        return super().parse(fields if name is None else fields.replace_values(fields.value | {"id": name}))
