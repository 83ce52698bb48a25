"""Records on a terminal: prompts, answers and corrections as tokens, coloured by what trains them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from math import isnan
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fdt.cli.reading import to_one_line
from fdt.data.batch import Batch
from fdt.data.chat.control_tokens import get_control_ids
from fdt.data.collate import Collator
from fdt.report.sanitize import make_legible
from feedback.types import Episode

Masks = frozenset[str]
# What trains a token -> what it is called, and the two shades that neighbouring tokens take in turn.
TRAINED = {
    frozenset({"sampled"}): ("score", ("#ffffff on #005a8f", "#ffffff on #0072b2")),
    frozenset({"distilled"}): ("critique", ("#ffffff on #9c4400", "#ffffff on #bf5300")),
    frozenset({"sampled", "distilled"}): ("score + critique", ("#ffffff on #7b3f6b", "#ffffff on #96527f")),
    frozenset({"imitated"}): ("imitation of the revision", ("#ffffff on #00664a", "#ffffff on #00805e")),
    frozenset(): ("nothing: not scored, not criticised", ("#000000 on #b5b5b5", "#000000 on #c8c8c8")),
}
READ = "dim"
CONTROL = "bold magenta"
HINTED = "bold #e69f00"


def build_console() -> Console:
    """Standard output; in a pipe nothing is coloured and no line is broken."""
    return Console(highlight=False, markup=False, emoji=False)


class View:
    """Prints records to a console."""

    def __init__(self, out: Console, tokenizer: Any):
        self.out = out
        self.tokenizer = tokenizer
        self.control = get_control_ids(tokenizer)
        self.coloured = out.color_system is not None and not out.no_color

    def print_legend(self) -> None:
        """What the colours mean; without colours, how tokens are set apart."""
        if not self.coloured:
            self._print(Text("Tokens that train are set apart by |. Contexts are read, not trained."))
            return
        line = Text("trained by  ")
        for name, shades in TRAINED.values():
            line.append(f" {name.split(':')[0]} ", shades[0]).append("  ")
        line.append("read only", READ).append("  ").append("control token", CONTROL).append("  ")
        self._print(line.append("teacher's hint", HINTED))

    def print_record(self, number: int, episode: Episode, batch: Batch | None, collator: Collator) -> None:
        """One record: its feedback, then each row that it becomes."""
        title = f"record {number} · id {to_one_line(episode.id)} · task {to_one_line(episode.task.key)}"
        self._print(Text(f"\n━━ {title} ━━", "bold"))
        for indent, line in format_feedback(episode):
            self._print(line, indent)
        if episode.id in collator.dropped:
            reason = f"dropped: longer than {collator.max_tokens} tokens"
            reason = reason if episode.policy_turns else "a prompt without an answer, for on-policy training"
            self._print(Text(reason, "bold red"), indent=2)
        for what, count in collator.truncated.items():
            self._print(Text(f"{what}: {count}", "bold red"), indent=2)
        if batch is not None:
            for row in range(len(batch.episodes)):
                self._print_row(batch, row)

    def print_refusal(self, reason: str) -> None:
        """Says that a run would not begin with this record."""
        self._print(Text(f"training refuses it: {to_one_line(reason)}", "bold red"), indent=2)

    def _print_row(self, batch: Batch, row: int) -> None:
        student = batch.student
        ids = student.tokens[row, : student.lengths[row]].tolist()
        target = student.target[row, : student.lengths[row]].tolist()
        masks = iter(list_signals(batch, row))
        kinds = [next(masks) if answered else None for answered in target]
        imitated = any(kind == frozenset({"imitated"}) for kind in kinds)
        start = 0
        for kind, run in groupby(kinds):
            size = len(list(run))
            part = ids[start : start + size]
            if kind is None and not (imitated and start == 0):
                self._print_block(f"the student reads {size} tokens", self._render_context(part))
            elif kind is not None:
                self._print_block(
                    f"{size} tokens trained by {TRAINED[kind][0]}", self._render_targets(part, TRAINED[kind][1])
                )
            start += size
        self._print_teacher(batch, row, _get_context_ids(ids, target))

    def _print_teacher(self, batch: Batch, row: int, student: list[int]) -> None:
        """What the teacher reads under each hint up to the last answer, and what of it the student does not."""
        if batch.teacher is None or batch.teacher_rows is None:
            return
        for place in (batch.teacher_rows == row).nonzero()[:, 0].tolist():
            size = int(batch.teacher.lengths[place])
            ids = _get_context_ids(
                batch.teacher.tokens[place, :size].tolist(), batch.teacher.target[place, :size].tolist()
            )
            before = _count_common(ids, student)
            after = min(_count_common(ids[::-1], student[::-1]), min(len(ids), len(student)) - before)
            end = len(ids) - after
            body = (
                self._render_context(ids[:before])
                + self._render_context(ids[before:end], HINTED)
                + self._render_context(ids[end:])
            )
            self._print_block(
                f"the teacher reads {len(ids)} tokens before the same answer, {end - before} of them a hint", body
            )

    def _render_context(self, ids: list[int], style: str = READ) -> Text:
        text = Text()
        for is_control, run in groupby(ids, lambda token: token in self.control):
            text.append(make_legible(self.tokenizer.decode(list(run))), CONTROL if is_control else style)
        return text

    def _render_targets(self, ids: list[int], shades: tuple[str, str]) -> Text:
        text = Text()
        for number, piece in enumerate(decode_pieces(self.tokenizer, ids)):
            if not self.coloured and number and not text.plain.endswith("\n"):
                text.append("|")
            # A line break inside a shade would be invisible.
            text.append(make_legible(piece).replace("\n", "↵\n"), shades[number % 2])
        return text

    def _print_block(self, title: str, body: Text) -> None:
        if body.plain.endswith("\n"):
            body.right_crop(1)  # the line after an assistant's header
        self._print(Text(title, "underline"), indent=2)
        self._print(body, indent=4)

    def _print(self, text: Text, indent: int = 0) -> None:
        if self.out.is_terminal:
            self.out.print(Padding(text, (0, 0, 0, indent)))
        else:
            for line in text.split("\n", allow_blank=True):
                self.out.print(Text(" " * indent) + line, soft_wrap=True)


def format_feedback(episode: Episode) -> Iterator[tuple[int, Text]]:
    """The feedback on an episode: indent and line."""
    for item in episode.feedback:
        turn = None if item.turn is None else f"turn {item.turn}"
        who = " · ".join(part for part in (item.annotator, item.source, turn) if part)
        line = Text(to_one_line(item.name), "bold").append(f" ({to_one_line(who)})", "not bold dim")
        if not isnan(item.score):
            line.append(f"  {item.score:.3g} of 1")
        yield 2, line
        for name, words in (("critique", item.text), ("revision", item.revision)):
            if words:
                yield 4, Text(f"{name}: ", "italic").append(make_legible(words), "not italic")
    for other in episode.preferences:
        who = f" by {to_one_line(other.annotator)}" if other.annotator else ""
        yield 2, Text(f"preferred to {to_one_line(other.other_id)}{who}: {100 * other.strength:.0f} %")
    if episode.task.reference is not None:
        yield 2, Text("reference: ", "italic").append(make_legible(episode.task.reference), "not italic")


def list_signals(batch: Batch, row: int) -> list[Masks]:
    """For each target token of a row, the names of the masks that it is in."""
    start, end = batch.offsets[row : row + 2].tolist()
    columns = {name: batch.rollouts.masks[name][start:end].tolist() for name in ("sampled", "distilled", "imitated")}
    return [frozenset(name for name in columns if columns[name][n]) for n in range(end - start)]


def decode_pieces(tokenizer: Any, ids: list[int]) -> Iterator[str]:
    """The text of each token; tokens that only together make a character come together."""
    held: list[int] = []
    for number, token in enumerate(ids, 1):
        held.append(token)
        text = tokenizer.decode(held)
        if not text.endswith("\ufffd") or number == len(ids):
            yield text
            held = []


def _get_context_ids(ids: list[int], target: list[bool]) -> list[int]:
    """The ids up to the last run of targets: prompt, history and earlier answers."""
    end = len(ids) - target[::-1].index(True) if True in target else len(ids)
    while end and target[end - 1]:
        end -= 1
    return ids[:end]


def _count_common(left: list[int], right: list[int]) -> int:
    """Length of the longest common start."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
