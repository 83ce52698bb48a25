"""The token view: which episodes it shows, and what stands behind each colour."""

import numpy as np
import pytest

from fdt.report import write_report
from fdt.report.panels.tokens import (
    LONGEST,
    SHOWN,
    SignalWeights,
    compute_scales,
    pick_episodes,
    pick_shade,
    read_coefficients,
)
from fdt.report.runs import find_runs, read_run
from tests.helpers.run_folder import episodes, write_arm, write_lines


def episode() -> dict:
    """One transcript record."""
    return episodes(np.random.default_rng(0), steps=1, rows=1)[0]


def test_token_view_shows_recorded_tokens_spread_over_training(root):
    shown = pick_episodes(find_runs(root)[0])
    assert len(shown) == SHOWN
    assert [one.record["step"] for one in shown] == [0, 2, 4, 7, 9, 11]
    # Both signals first: rows that have no teacher come only where those run out.
    assert all(one.record["critique"] for one in shown)


def test_token_values_are_what_the_objective_weighs(tmp_path):
    arm = write_arm(tmp_path / "arm")
    token = {"text": "a", "logp": -2.0, "old": -2.0, "teacher_logp": -0.5, "advantage": -1.0}
    untaught = {**token, "teacher_logp": None}
    write_lines(arm / "transcripts.jsonl", [{**episode(), "tokens": [token, untaught]}])
    one, two = pick_episodes(read_run(arm))[0].tokens
    # policy has no coefficient in the config, so 1; distill has 0.5.
    assert one.values == {"both": -1.0 + 0.5 * 1.5, "score": -1.0, "critique": 1.5}
    assert two.values["both"] == -1.0
    assert two.values["critique"] != two.values["critique"]
    assert one.title == "log p -2.00, teacher -0.50, difference +1.50, advantage -1.00, both -0.25"


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
    assert f"… ({40 * len(record['tokens']) - LONGEST} more tokens)" in html


def test_coefficients_come_from_the_config():
    terms = {name: {"class_path": f"objectives.{kind}"} for name, kind in (("a", "PolicyGradient"), ("b", "Distill"))}
    assert read_coefficients({"model": {"terms": terms, "coefficients": {"a": 0.0, "b": 2}}}) == SignalWeights(
        0.0, 2.0, True
    )
    assert read_coefficients({"model": [{"terms": {"b": terms["b"]}}]}) == SignalWeights(0.0, 1.0, True)
    assert read_coefficients({}) == SignalWeights(1.0, 1.0, False)


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
    """2, 2/3, 2/9, 2/27: a quiet signal beside a loud one still has a colour."""
    assert pick_shade(value, 2.0) == expected


def test_scales_of_nothing_are_one():
    assert set(compute_scales([]).values()) == {1.0}
