"""The token view: which episodes it shows, and what stands behind each colour."""

import numpy as np
import pytest

from fdt.report import write_report
from fdt.report.panels.tokens import MAX_EPISODES, MAX_TOKENS, compute_scales, list_views, pick_episodes, pick_shade
from fdt.report.runs import find_runs, read_run
from tests.helpers.run_folder import episodes, write_arm, write_lines


def episode() -> dict:
    """One transcript record."""
    return episodes(np.random.default_rng(0), steps=1, rows=1)[0]


def test_token_view_shows_recorded_tokens_spread_over_training(root):
    shown = pick_episodes(find_runs(root)[0])
    assert len(shown) == MAX_EPISODES
    assert [one.record["step"] for one in shown] == [0, 2, 4, 7, 9, 11]
    # Both signals first: rows that have no teacher come only where those run out.
    assert all(one.record["critique"] for one in shown)


def test_token_values_are_the_terms_signals_and_their_weighted_sum(tmp_path):
    arm = write_arm(tmp_path / "arm")
    token = {"text": "a", "logp": -2.0, "old": -2.0, "teacher_logp": -0.5, "advantage": -1.0}
    distilled = {**token, "signal/policy": -1.0, "signal/distill": 1.5}
    other = {**token, "teacher_logp": None, "signal/policy": -1.0, "signal/distill": None}
    record = {**episode(), "coefficients": {"policy": 1.0, "distill": 0.5}, "tokens": [distilled, other]}
    write_lines(arm / "transcripts.jsonl", [record])
    (shown,) = pick_episodes(read_run(arm))
    one, two = shown.tokens
    assert one.signals == {"policy": -1.0, "distill": 1.5} and one.total == -1.0 + 0.5 * 1.5
    assert two.total == -1.0
    assert two.signals["distill"] != two.signals["distill"] and two.difference != two.difference
    assert one.title == (
        "log p -2.00, teacher -0.50, difference +1.50, advantage -1.00, policy -1.00, distill +1.50, weighted sum -0.25"
    )
    assert shown.formula == "1 × policy + 0.5 × distill"


def test_a_term_of_any_name_has_a_view_and_its_coefficient_counts(tmp_path):
    """Neither term is one of ours: the page must not look for names or classes that it knows."""
    arm = write_arm(tmp_path / "arm")
    token = {"text": "a", "logp": -2.0, "advantage": 0.0, "signal/<b>mine</b>": 2.0, "signal/nudge": -1.0}
    coefficients = {"<b>mine</b>": 3.0, "nudge": 0.5, "off": 0.0, "mute": 1.0}
    write_lines(arm / "transcripts.jsonl", [{**episode(), "coefficients": coefficients, "tokens": [token]}])
    (shown,) = pick_episodes(read_run(arm))
    assert shown.tokens[0].total == 3.0 * 2.0 + 0.5 * -1.0
    assert shown.formula == "3 × <b>mine</b> + 0.5 × nudge; without a signal per token: mute"
    views = list_views([shown])
    assert [view.name for view in views] == ["weighted sum", "<b>mine</b>", "nudge"]
    assert [view.get_value(shown.tokens[0]) for view in views] == [5.5, 2.0, -1.0]
    html = write_report(arm).read_text()
    assert "Weighted sum = 3 × &lt;b&gt;mine&lt;/b&gt; + 0.5 × nudge" in html
    for view in views:
        assert html.count(f'id="view-{view.id}"') == html.count(f'<label for="view-{view.id}">') == 1
    assert "sum-p4 term0-p4 term1-n4" in html


def test_a_schedule_shows_the_coefficient_of_the_step(tmp_path):
    arm = write_arm(tmp_path / "arm")
    token = {"text": "a", "logp": -1.0, "signal/policy": 1.0}
    steps = [{**episode(), "step": n, "coefficients": {"policy": 1 - n / 2}, "tokens": [token]} for n in range(3)]
    write_lines(arm / "transcripts.jsonl", steps)
    assert [one.tokens[0].total for one in pick_episodes(read_run(arm))] == [1.0, 0.5, 0.0]
    assert [one.formula for one in pick_episodes(read_run(arm))] == ["1 × policy", "0.5 × policy", "0 × policy"]


def test_a_resumed_step_is_shown_as_it_was_trained_last(tmp_path):
    arm = write_arm(tmp_path / "arm")
    first, second = episode(), {**episode(), "critique": "the later one"}
    write_lines(arm / "transcripts.jsonl", [first, second])
    assert [one.record["critique"] for one in pick_episodes(read_run(arm))] == ["the later one"]


def test_long_answers_are_cut_and_say_so(tmp_path):
    arm = write_arm(tmp_path / "arm")
    record = episode()
    write_lines(arm / "transcripts.jsonl", [{**record, "tokens": record["tokens"] * 40}])
    html = write_report(arm).read_text()
    assert f"… ({40 * len(record['tokens']) - MAX_TOKENS} more tokens)" in html


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "z"),
        (float("nan"), "z"),
        (2.0, "p4"),
        (9.0, "p4"),
        (-1.0, "n3"),
        (0.07, "z"),
        (0.08, "p1"),
        (0.3, "p2"),
        (-9.0, "n4"),
    ],
)
def test_shades(value, expected):
    """2, 2/3, 2/9, 2/27: a small signal beside a large one still has a colour."""
    assert pick_shade(value, 2.0) == expected


def test_scales_of_nothing_are_one():
    assert compute_scales([], list_views([])) == {"sum": 1.0}


def test_the_sum_counts_what_a_token_weighs(tmp_path):
    arm = write_arm(tmp_path / "arm")
    token = {"text": "a", "logp": -2.0, "after": -1.5, "signal/policy": -1.0, "signal/distill": 1.5}
    record = {**episode(), "coefficients": {"policy": 1.0, "distill": 0.5}}
    weights = {"weight/policy": 0.25, "weight/distill": 2.0}
    write_lines(arm / "transcripts.jsonl", [{**record, "tokens": [{**token, **weights}]}])
    (shown,) = pick_episodes(read_run(arm))
    assert shown.tokens[0].total == 1.0 * 0.25 * -1.0 + 0.5 * 2.0 * 1.5
    assert "after the update -1.50" in shown.tokens[0].title
