"""Puts the page together: plain values into a template that escapes every one of them."""

import base64
from collections.abc import Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fdt.report.measures import LIKELIHOOD
from fdt.report.panels.calibration import Calibration
from fdt.report.panels.costs import build_cost
from fdt.report.panels.diversity import compute_diversity
from fdt.report.panels.ledger import NO_EFFECT, build_ledger
from fdt.report.panels.reliability import TITLE as CALIBRATION_FIGURE
from fdt.report.panels.samples import as_text, select_samples
from fdt.report.panels.settings import collect_settings
from fdt.report.panels.signals import build_signals, format_number
from fdt.report.panels.tokens import LEVELS, STEP, compute_scales, list_views, pick_episodes, pick_shade
from fdt.report.runs import Run
from fdt.report.sanitize import make_legible
from fdt.report.table import KINDS, UNKNOWN, Row, Table, format_interval
from fdt.statistics.intervals import Interval

# Nothing is loaded from anywhere, nothing runs, nothing is sent: the page holds text that strangers wrote.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
LONGEST_TEXT = 4000  # characters of one prompt, answer or critique
LEDGER_FIGURE = "Where the feedback went"
TABLE_FIGURE = "Before and after"
OTHER_FIGURES = (TABLE_FIGURE, LEDGER_FIGURE, CALIBRATION_FIGURE)  # the rest are learning curves


def render(
    title: str, runs: list[Run], table: Table, figures: dict[str, Path], calibrated: Sequence[Calibration] = ()
) -> str:
    """The whole page as HTML that any UTF-8 file can hold. `figures` are PNG files by title, embedded as data."""
    episodes = [(run, pick_episodes(run)) for run in runs]
    shown = [one for _, several in episodes for one in several]
    views = list_views(shown)
    chosen, outcomes = select_samples(runs)
    images = {name: _encode_image(path) for name, path in figures.items()}
    return (
        _build_environment()
        .get_template("page.html")
        .render(
            policy=POLICY,
            title=title,
            table=table,
            verdicts=[(row, describe_change(row), _format_change(row)) for row in table.rows if not row.is_base],
            settings=collect_settings(runs),
            bars={name: data for name, data in images.items() if name.startswith(TABLE_FIGURE)},
            curves={name: data for name, data in images.items() if not name.startswith(OTHER_FIGURES)},
            calibrated=calibrated,
            diversity=compute_diversity(runs),
            reliability={name: data for name, data in images.items() if name.startswith(CALIBRATION_FIGURE)},
            costs=[one for one in map(build_cost, runs) if one.has_values],
            signals=[one for one in map(build_signals, runs) if one.lines],
            ledger_figure=images.get(LEDGER_FIGURE),
            views=views,
            levels=range(1, LEVELS + 1),
            ratio=f"{STEP:g}",
            scales=compute_scales(shown, views),
            arms=[arm for arm in episodes if arm[1]],
            no_effect=NO_EFFECT,
            ledgers=[build_ledger(run) for run in runs],
            samples=chosen,
            outcomes=outcomes,
            problems=[problem for run in runs for problem in run.problems],
        )
    )


def describe_change(row: Row) -> str:
    """What the interval of the change shows: improved, worsened, no clear change, or not measured."""
    if row.change is None or not row.change.has_bounds:
        return "not measured"
    if not row.change.clear_of_zero:
        return "no clear change"
    better = row.change.mean < 0 if row.kind == LIKELIHOOD else row.change.mean > 0
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
        "number": format_number,
    }
    environment.globals |= {"shade": pick_shade}
    return environment


def _format_change(row: Row) -> str:
    *_, scale, digits = KINDS[row.kind]
    unit = "nats/token" if row.kind == LIKELIHOOD else "points"
    return f"{format_interval(row.change, scale, '+' + digits)} {unit}"


def _format_signed(value: float) -> str:
    return f"{value:+.2f}" if isfinite(value) else UNKNOWN


def _format_score(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else "not scored"


def _format_step(value: float) -> str:
    return f"{value:.0f}" if isfinite(value) else UNKNOWN


def _format_fixed(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if isfinite(value) else UNKNOWN


def _format_range(interval: Interval) -> str:
    return format_interval(interval, 1.0, ".3f") if isfinite(interval.mean) else UNKNOWN


def _encode_image(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
