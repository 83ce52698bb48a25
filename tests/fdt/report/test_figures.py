"""Figures are written, show something, and survive runs that logged little."""

import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from fdt.report.figures import PALETTE, pick_colour, save_figures, select_panels, smooth
from fdt.report.runs import find_runs
from fdt.report.table import build_table
from tests.helpers.run_folder import write_arm, write_likelihood_arm


def ink(path) -> float:
    """Share of pixels that are not white."""
    return float((imread(path)[..., :3] < 0.98).any(-1).mean())


def test_every_figure_is_drawn(root, tmp_path):
    runs = find_runs(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = save_figures(runs, build_table(runs), tmp_path / "figures")
    expected = {
        "before_and_after_score.png",
        "reward.png",
        "distance_to_the_start.png",
        "throughput.png",
        "entropy.png",
        "loss_policy.png",
        "loss_distill.png",
        "loss_imitate.png",
        "where_the_feedback_went.png",
    }
    assert expected <= {path.name for path in drawn.values()}
    for path in drawn.values():
        assert 0.01 < ink(path) < 0.9, path.name


def test_both_arms_are_in_the_curve(root, tmp_path):
    runs = find_runs(root)
    path = save_figures(runs, build_table(runs), tmp_path)["Reward"]
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    for index in range(2):
        wanted = [int(pick_colour(index)[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(-1) < 3).sum() > 100


def test_colours_stay_apart_for_the_colour_blind():
    # Luminance (Rec. 709) tells any two colours of the palette apart, or their hue on the blue-yellow axis does.
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE]) / 255
    features = np.stack([rgb @ [0.2126, 0.7152, 0.0722], rgb[:, 2] - rgb[:, :2].mean(1)], 1)
    gaps = np.abs(features[:, None] - features[None]).max(-1) + np.eye(len(PALETTE))
    assert gaps.min() > 0.08


def test_panels_need_two_steps(root):
    titles = [panel.title for panel in select_panels(find_runs(root))]
    assert "Held-out score" not in titles  # one value left after the resumed run replaced step 7
    assert "Loss: distill" in titles
    assert "Clipped" not in titles


def test_a_run_with_nothing_logged_still_gets_its_bars(tmp_path):
    arm = write_arm(tmp_path / "arm")
    for path in arm.glob("metrics/*/metrics.csv"):
        path.unlink()
    (arm / "accounting.json").unlink()
    runs = find_runs(tmp_path)
    assert list(save_figures(runs, build_table(runs), tmp_path / "figures")) == ["Before and after (score)"]


def test_many_arms_and_a_likelihood(tmp_path):
    for number in range(8):
        write_likelihood_arm(tmp_path / f"arm{number} $x_1$ with a name that is longer than any label", 0.9)
    runs = find_runs(tmp_path)
    drawn = save_figures(runs, build_table(runs), tmp_path / "figures")
    assert ink(drawn["Before and after (likelihood)"]) > 0.01


@pytest.mark.parametrize("count", [1, 2, 40])
def test_smoothing_keeps_a_constant_and_a_line(count):
    assert smooth(np.full(count, 0.3)) == pytest.approx(0.3)
    middle = slice(count // 4, count - count // 4)
    assert smooth(np.arange(count, dtype=float))[middle] == pytest.approx(np.arange(count)[middle], abs=0.51)
