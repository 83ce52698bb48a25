"""The quickstart's held-out sums, as scripts here ask them."""

import json

from fdt.resources import find_sample


def read_held_out(count: int) -> list[tuple[str, str]]:
    """The first sums, such as ``1 + 8``, with their right answers."""
    lines = find_sample("sums_heldout.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [(row["expression"], row["reference"]) for row in map(json.loads, lines)]
