"""The panel of signals: thirds of a run by hand, and its place on the page."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fdt.report import write_report
from fdt.report.panels.signals import build_signals, format_number
from fdt.report.runs import Run
from tests.helpers.run_folder import write_arm

NAN = float("nan")


def test_thirds_by_hand():
    metrics = {
        "step": np.arange(7.0),
        "train/signals/trust/ann": np.array([0.5, 0.5, 0.4, 0.2, NAN, 0.1, 0.0]),
        "train/signals/tokens/policy": np.array([10.0, 20, 30, 40, 50, 60, 70]),
        "train/signals/cosine/policy_distill": np.array([-1.0, NAN, NAN, NAN, NAN, NAN, NAN]),
        "train/loss": np.zeros(7),
    }
    found = build_signals(Run("arm", Path("nowhere"), metrics=metrics)).lines
    assert [(line.what, line.name) for line in found] == [
        ("tokens a step", "policy"),
        ("cosine of two gradients", "policy and distill"),
        ("trust in an annotator's critiques", "ann"),
    ]
    tokens, cosine, trust = found
    assert (tokens.early, tokens.middle, tokens.late) == (15.0, 40.0, 65.0)
    assert (cosine.early, cosine.middle, cosine.late) == (-1.0, -1.0, -1.0)
    assert (trust.early, trust.middle, trust.late) == pytest.approx((0.5, 0.3, 0.05))  # of the six that were logged


def test_numbers_are_short():
    assert [format_number(value) for value in (1234.5, 0.12345, -0.5, NAN)] == ["1,234", "0.123", "-0.5", "–"]


@pytest.mark.parametrize("logged", [True, False])
def test_the_page_has_the_panel_where_something_was_logged(tmp_path: Path, logged: bool):
    write_arm(tmp_path / "arm")
    if logged:
        path = max((tmp_path / "arm").rglob("metrics.csv"))
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["train/signals/trust/<b>ann</b>"] = "0.25"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    page = write_report(tmp_path / "arm").read_text(encoding="utf-8")
    assert ('id="signals"' in page) is logged
    assert ("&lt;b&gt;ann&lt;/b&gt;</td><td>0.25</td>" in page) is logged  # a name is text, never a tag
