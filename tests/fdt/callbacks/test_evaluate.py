"""Held-out numbers of arms that share the measurement of their base."""

import csv

import pytest

from tests.helpers.runs import quick


@pytest.mark.slow
def test_each_arm_s_curve_begins_at_the_base_that_one_of_them_measured(tmp_path):
    done = quick(
        "fit",
        *("-c", "task/conventions", "--arms", "[scores, critiques]"),
        *("--trainer.max_steps", "1", "--data.limits.heldout", "16", "--trainer.default_root_dir", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for arm in ("scores", "critiques"):
        with (tmp_path / arm / "metrics" / "version_0" / "metrics.csv").open() as file:
            found[arm] = {int(row["step"]): row["val/score"] for row in csv.DictReader(file) if row.get("val/score")}
    assert set(found["scores"]) == set(found["critiques"]) == {0, 1}
    assert found["scores"][0] == found["critiques"][0]
