"""What training will read of an episode, as `fdt data show` prints it, for the page."""

from __future__ import annotations

import io
from typing import Any

from fdt.errors import UserError
from feedback.types import Episode


class Preview:
    """Renders episodes as text; loads a tokenizer when the first is asked for."""

    def __init__(self, model: str):
        self.model = model
        self._collator: Any = None

    def render(self, number: int, episode: Episode) -> str:
        """What student and teacher read, and which tokens train, in plain text.

        Raises:
            UserError: no tokenizer, or an episode that training would refuse.
        """
        import argparse

        from rich.console import Console

        from fdt.cli.data.show import build_collator, collate
        from fdt.cli.data.view import View
        from feedback.aggregate import add_win_rates, aggregate_scores
        from feedback.hints import CritiqueHint, annotate_group
        from feedback.types import attach_hints

        if self._collator is None:
            self._collator = build_collator(argparse.Namespace(model=self.model, max_tokens=2048), CritiqueHint())
        out = io.StringIO()
        view = View(Console(file=out, width=100, highlight=False, markup=False, emoji=False), self._collator.tokenizer)
        view.print_legend()
        (found,) = annotate_group(CritiqueHint(), attach_hints(add_win_rates(aggregate_scores([episode]))))
        view.print_record(number, episode, collate(self._collator, found), self._collator)
        return out.getvalue()

    def render_safely(self, number: int, episode: Episode) -> str:
        """`render`, or why it cannot be shown."""
        try:
            return self.render(number, episode)
        except UserError as error:
            return f"cannot be shown: {error}"
