"""`fdt data stats`: the counts against hand-worked numbers, and what reaches terminal, JSON and picture."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdt.cli.data.agreement import compute_agreement, interval_alpha
from fdt.cli.data.histogram import KEPT, Histogram, Lengths, render_bar
from fdt.cli.data.main import main
from fdt.cli.data.tally import MOST, Tally
from fdt.errors import UserError
from feedback.types import Episode, Feedback, Preference, Task, Turn

_ = math.nan
# Four observers, twelve units, missing values: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability".
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


def triples(table):
    """Units, annotators, values of the cells that are there."""
    cells = [(unit, who, mark) for who, row in enumerate(table) for unit, mark in enumerate(row) if mark == mark]
    units, who, marks = zip(*cells, strict=True)
    return np.array(units), np.array(who), np.array(marks, float)


def episode(number: int, response: str, *feedback: Feedback, prompt: str = "p") -> Episode:
    return Episode(
        str(number), Task(prompt, ({"role": "user", "content": prompt},)), (Turn("assistant", response),), feedback
    )


def test_alpha_is_the_published_one():
    found = compute_agreement(*triples(OBSERVERS))
    assert round(found.alpha, 3) == 0.849  # interval metric
    assert (found.responses, found.scores, found.annotators) == (11, 40, 4)  # unit 12 has one score and is not paired


def test_agreement_by_hand():
    # Two units: (0, 1) and (1, 1). Observed: mean of squared differences within units = (2·1/1 + 0) / 4 = 0.5.
    # Expected: pairs among 0, 1, 1, 1: 6 of 12 ordered pairs differ by 1 = 0.5. So alpha = 0.
    found = compute_agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0.0, 1, 1, 1]))
    assert found.alpha == pytest.approx(0) and found.percent == 50


def test_alpha_of_all_equal_and_of_opposite_scores():
    units, who = np.repeat(np.arange(4), 2), np.tile([0, 1], 4)
    assert compute_agreement(units, who, np.array([0.0, 0, 1, 1, 0, 0, 1, 1])).alpha == 1
    assert compute_agreement(units, who, np.array([0.0, 1, 1, 0, 0, 1, 1, 0])).alpha < -0.5
    assert math.isnan(compute_agreement(units, who, np.ones(8)).alpha)


def test_one_annotator_twice_is_no_agreement():
    assert compute_agreement(np.zeros(2, int), np.zeros(2, int), np.array([1.0, 0])) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_alpha_equals_its_definition_over_pairs(cells):
    first = {}
    for unit, who, mark in cells:
        first.setdefault((unit, who), mark / 4)
    units = {unit: [mark for (u, _), mark in first.items() if u == unit] for unit, _ in first}
    units = {unit: marks for unit, marks in units.items() if len(marks) > 1}
    found = compute_agreement(*(np.array(column) for column in zip(*[(u, w, m / 4) for u, w, m in cells], strict=True)))
    if not units:
        assert found is None
        return
    every = [mark for marks in units.values() for mark in marks]
    observed = sum(sum((a - b) ** 2 for a in marks for b in marks) / (len(marks) - 1) for marks in units.values())
    expected = sum((a - b) ** 2 for a in every for b in every) / (len(every) - 1)
    if expected == 0:
        assert math.isnan(found.alpha)
    else:
        assert found.alpha == pytest.approx(1 - observed / expected)


def test_alpha_keeps_its_digits_far_from_zero():
    units, _, marks = triples(OBSERVERS)
    _, place, counts = np.unique(units[units < 11], return_inverse=True, return_counts=True)
    near, far = (interval_alpha(place, counts, marks[units < 11] + shift) for shift in (0, 1e6))
    assert near == pytest.approx(far, abs=1e-9)


def test_a_histogram_holds_few_values_and_loses_none():
    marks = Histogram()
    for number in range(10_000):
        marks.add(number / 9_999)
    assert len(marks.values) <= KEPT and sum(count for _, count in marks.compute_bars()) == 10_000
    assert marks.mean == pytest.approx(0.5) and len(marks.compute_bars()) == 10
    few = Histogram()
    for mark in (0.1 + 0.2, 0.3, 5):
        few.add(mark)
    assert few.compute_bars() == [("0.3", 2), ("5", 1)]


def test_lengths():
    lengths = Lengths()
    for text in ("a" * n for n in (1, 2, 3, 4, 100)):
        lengths.add(text)
    lengths.add(None)
    assert lengths.summarise() == {"count": 5, "mean": 22.0, "median": 3, "p90": 100, "longest": 100}
    assert Lengths().summarise() == {"count": 0}


def test_bars():
    assert render_bar(0, 10, 8) == "" and render_bar(10, 10, 8) == "█" * 8 and render_bar(5, 10, 1) == "▌"
    assert render_bar(1, 10**6, 8) == "▏"  # little is not nothing


def test_repeated_and_judged_again():
    tally = Tally()
    one, other = Feedback(annotator="a", score=1.0), Feedback(annotator="b", score=1.0)
    for number, (response, item) in enumerate([("r", one), ("r", one), ("r", other), ("s", one)]):
        tally.add(episode(number, response, item))
    tally.add(episode(9, "r", one, prompt="another"))
    assert tally.count_repeated() == {"the same record again": 1, "the same response judged again": 1}
    unscored = Tally()
    for number in range(2):
        unscored.add(episode(number, "r", Feedback(text="no")))
    assert unscored.count_repeated()["the same record again"] == 1


def test_groups_that_a_baseline_learns_from():
    tally = Tally()
    for number, (task, score) in enumerate([("a", 1), ("a", 0), ("b", 1), ("b", 1), ("c", 0), ("d", _), ("d", 1)]):
        tally.add(episode(number, str(number), Feedback(score=float(score)), prompt=task))
    assert tally.count_groups() == {"tasks": 4, "with one response": 1, "with scores that differ": 1}


def test_comparisons():
    tally = Tally()
    for strength in (1.0, 0.8, 0.5, 0.0):
        tally.add(replace(episode(0, "r"), preferences=(Preference("other", strength),)))
    assert tally.compared == {
        "comparisons": 4,
        "with a chosen and a rejected response": 3,
        "ties": 1,
        "far better or worse (strength 0 or 1)": 2,
    }


def test_nameless_scores_agree_within_a_record_alone():
    tally = Tally()
    tally.add(episode(0, "r", Feedback(score=1.0), Feedback(score=0.0)))
    tally.add(episode(1, "r", Feedback(score=1.0)))
    found = tally.ratings["score"].compute_agreement()
    assert (found.responses, found.scores) == (1, 2)


def test_many_annotators_are_pooled():
    tally = Tally()
    for number in range(MOST + 50):
        tally.add(episode(number, "r", Feedback(annotator=f"w{number}", score=0.5)))
    assert len(tally.scores) == MOST + 1
    assert sum(marks.count for marks in tally.scores.values()) == MOST + 50
    assert tally.ratings["score"].compute_agreement().annotators == MOST + 50


@pytest.fixture
def ratings(tmp_path):
    path = tmp_path / "ratings.jsonl"
    marks = {"kim": (1, 3, 5), "[bold]lee\x1b[0m": (1, 3, 4)}
    path.write_text(
        "".join(
            json.dumps(
                {
                    "prompt": "p",
                    "response": str(n),
                    "score": mark,
                    "annotator": who,
                    "source": "llm",
                    "critique": "c" * (n + 1),
                }
            )
            + "\n"
            for who, three in marks.items()
            for n, mark in enumerate(three)
        )
    )
    return path


def test_in_the_terminal(ratings, capsys):
    assert main(["stats", str(ratings), "--scale", "1", "5"]) == 0
    out = capsys.readouterr().out
    assert "6 records = 6 loaded + 0 refused" in out
    assert "by kim, on 1 to 5: 3 scores, mean 3\n" in out
    assert "[bold]lee" in out and "\x1b" not in out
    # Marks 0, .5, 1 against 0, .5, .75: observed 2·(1/16)/6 = 1/48; expected by pairs below.
    every = [0, 0.5, 1, 0, 0.5, 0.75]
    expected = sum((a - b) ** 2 for a in every for b in every) / 30
    assert f"equal 66.7 % of pairs   Krippendorff's alpha (interval) {1 - 1 / 48 / expected:.3f}" in out
    assert all(len(line) <= 80 for line in out.splitlines()[1:]), "wider than a terminal"


def test_for_machines(ratings, capsys):
    assert main(["stats", str(ratings), "--scale", "1", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == 6 and found["tasks"]["tasks"] == 1
    kim = next(judge for judge in found["scores"] if judge["annotator"] == "kim")
    assert kim["scale"] == [1, 5] and kim["mean"] == 3
    assert kim["ratings"] == [{"rating": rating, "count": 1} for rating in ("1", "3", "5")]
    assert found["lengths"]["critique"]["longest"] == 3
    assert found["sources"] == {"llm": {"count": 6, "share": 1.0}}
    assert found["repeated"] == {"the same record again": 0, "the same response judged again": 3}


def test_a_picture(ratings, tmp_path, capsys):
    from matplotlib.image import imread

    out = tmp_path / "marks.png"
    assert main(["stats", str(ratings), "--scale", "1", "5", "--picture", str(out)]) == 0
    picture = imread(out)
    assert picture.shape[0] > 500 and (picture[..., :3].min(-1) < 0.9).mean() > 0.02  # something is drawn
    with pytest.raises(UserError, match="--picture"):
        main(["stats", str(ratings), "--scale", "1", "5", "--picture", str(tmp_path / "marks.xyz")])


def test_what_cannot_be_read_is_counted(ratings, capsys):
    with ratings.open("a") as file:
        file.write('{"prompt": "p"}\n')
    assert main(["stats", str(ratings), "--scale", "1", "5"]) == 0
    out = capsys.readouterr().out
    assert "7 records = 6 loaded + 1 refused" in out and "first fault: " in out
    assert main(["stats", str(ratings) + "x"]) == 1
