"""Puts the page together: plain values into a template that escapes every one of them."""

import base64
from collections.abc import Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fdt.report.arms import group_arms
from fdt.report.interactive.episodes import EpisodeFile
from fdt.report.interactive.script import (
    build_data,
    build_policy,
    encode_chunks,
    encode_json,
    read_script,
    read_styles,
)
from fdt.report.measures import LIKELIHOOD
from fdt.report.panels.calibration import Calibration
from fdt.report.panels.comparison import Compared, compare_arms
from fdt.report.panels.costs import build_cost, build_judge_cost
from fdt.report.panels.diversity import compute_diversity
from fdt.report.panels.ledger import NO_EFFECT, build_ledger
from fdt.report.panels.provenance import build_provenance
from fdt.report.panels.reliability import TITLE as CALIBRATION_FIGURE
from fdt.report.panels.samples import as_text, select_samples
from fdt.report.panels.settings import collect_settings
from fdt.report.panels.signals import build_signals, format_number
from fdt.report.panels.tokens import LEVELS, STEP, compute_scales, list_views, pick_episodes, pick_shade
from fdt.report.runs import Run
from fdt.report.sanitize import make_legible
from fdt.report.table import KINDS, UNKNOWN, Table, format_interval
from fdt.statistics.intervals import Interval

LONGEST_TEXT = 4000  # characters of one prompt, answer or critique
LEDGER_FIGURE = "Where the feedback went"
TABLE_FIGURE = "Before and after"
OTHER_FIGURES = (TABLE_FIGURE, LEDGER_FIGURE, CALIBRATION_FIGURE)  # the rest are learning curves


class Verdict(NamedTuple):
    """One card at the top: an arm, what became of it in a word, by how much, and over what."""

    name: str
    word: str
    change: str
    over: str


def render(
    title: str,
    runs: list[Run],
    table: Table,
    figures: dict[str, Path],
    calibrated: Sequence[Calibration] = (),
    live: Sequence[EpisodeFile] | None = None,
) -> str:
    """The whole page as HTML that any UTF-8 file can hold. `figures` are PNG files by title, embedded as data.

    `live`: the episodes of runs that go on, which a server hands out; the page then asks it for news and holds none.
    """
    images = {name: _encode_image(path) for name, path in figures.items()}
    page = _build_environment().get_template("page.html")
    return page.render(
        title=title,
        table=table,
        settings=collect_settings(runs),
        bars={name: data for name, data in images.items() if name.startswith(TABLE_FIGURE)},
        curves={name: data for name, data in images.items() if not name.startswith(OTHER_FIGURES)},
        reliability={name: data for name, data in images.items() if name.startswith(CALIBRATION_FIGURE)},
        ledger_figure=images.get(LEDGER_FIGURE),
        problems=[problem for run in runs for problem in run.problems],
        **_build_panels(runs, table, calibrated),
        **_build_tokens(runs if live is None else []),
        **_build_script(runs, live),
    )


def _list_verdicts(table: Table, compared: Compared | None) -> list[Verdict]:
    """What changed, one an arm: over all its seeds where some arm has several."""
    if compared is not None and any(level.seeds > 1 for level in compared.levels):
        kind = table.rows[0].kind
        return [_build_verdict(r.arm, kind, (r.change, r.after), 1.0, f"{r.seeds} seeds;") for r in compared.levels]
    rows = [row for row in table.rows if not row.is_base]
    return [
        _build_verdict(r.name, r.kind, (r.change, r.value), KINDS[r.kind][3], f"{r.prompts} held-out prompts; paired")
        for r in rows
    ]


def _build_verdict(
    name: str, kind: str, found: tuple[Interval | None, Interval | None], scale: float, over: str
) -> Verdict:
    """`found`: the change, and the level after training, which stands where there is no change."""
    change, level = found
    digits = KINDS[kind][4]
    unit = "nats/token" if kind == LIKELIHOOD else "points"
    if change is None and level is not None:
        return Verdict(name, "after training", f"{format_interval(level, scale, digits)} {unit}", over)
    return Verdict(name, describe_change(kind, change), f"{format_interval(change, scale, '+' + digits)} {unit}", over)


def _build_panels(runs: list[Run], table: Table, calibrated: Sequence[Calibration]) -> dict[str, Any]:
    chosen, outcomes = select_samples(runs)
    compared = compare_arms(group_arms(runs))
    return {
        "calibrated": calibrated,
        "compared": compared,
        "verdicts": _list_verdicts(table, compared),
        "diversity": compute_diversity(runs),
        "costs": [one for one in map(build_cost, runs) if one.has_values],
        "judge_costs": [one for one in map(build_judge_cost, runs) if one is not None],
        "signals": [one for one in map(build_signals, runs) if one.lines],
        "no_effect": NO_EFFECT,
        "ledgers": [build_ledger(run) for run in runs],
        "provenance": [one for one in map(build_provenance, runs) if one.facts],
        "samples": chosen,
        "outcomes": outcomes,
    }


def _build_tokens(runs: list[Run]) -> dict[str, Any]:
    """The episodes that are shown where no script runs."""
    episodes = [(run, pick_episodes(run)) for run in runs]
    shown = [one for _, several in episodes for one in several]
    views = list_views(shown)
    return {
        "views": views,
        "levels": range(1, LEVELS + 1),
        "ratio": f"{STEP:g}",
        "scales": compute_scales(shown, views),
        "arms": [arm for arm in episodes if arm[1]],
    }


def _build_script(runs: list[Run], live: Sequence[EpisodeFile] | None) -> dict[str, Any]:
    """The page's script, what it reads, and the content policy that names it."""
    episodes = [EpisodeFile.of_run(run.folder) for run in runs] if live is None else list(live)
    data = build_data(runs, group_arms(runs), episodes, live=live is not None)
    return {
        "live": live is not None,
        "policy": build_policy(live is not None),
        "styles": read_styles(),
        "script": read_script(),
        "data": encode_json(data),
        "has_curves": bool(data["panels"]),
        "chunks": encode_chunks(episodes) if live is None else {},
    }


def describe_change(kind: str, change: Interval | None) -> str:
    """What the interval of the change shows: improved, worsened, no clear change, or not measured."""
    if change is None or not change.has_bounds:
        return "not measured"
    if not change.clear_of_zero:
        return "no clear change"
    better = change.mean < 0 if kind == LIKELIHOOD else change.mean > 0
    return "improved" if better else "worsened"


def truncate_text(text: object) -> str:
    """The first `LONGEST_TEXT` characters of a prompt, an answer or a critique, saying how many are left out."""
    text = as_text(text)
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT} more characters)"


def _finalize(value: Any) -> Any:
    return make_legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clip": truncate_text,
        "signed": _format_signed,
        "score": _format_score,
        "step": _format_step,
        "fixed": _format_fixed,
        "range": _format_range,
        "span": _format_span,
        "number": format_number,
    }
    environment.globals |= {"shade": pick_shade}
    return environment


def _format_signed(value: float) -> str:
    return f"{value:+.2f}" if isfinite(value) else UNKNOWN


def _format_score(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else "not scored"


def _format_step(value: float) -> str:
    return f"{value:.0f}" if isfinite(value) else UNKNOWN


def _format_fixed(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if isfinite(value) else UNKNOWN


def _format_span(interval: Interval | None, digits: int) -> str:
    return format_interval(interval, 1.0, f".{digits}f")


def _format_range(interval: Interval) -> str:
    return format_interval(interval, 1.0, ".3f") if isfinite(interval.mean) else UNKNOWN


def _encode_image(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
