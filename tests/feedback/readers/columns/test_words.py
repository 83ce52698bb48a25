"""What people and spreadsheets write for scores: verdicts, percentages, stars; and what stands for nothing."""

import json
import math

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_with_report
from feedback.readers.columns.words import Rating, is_placeholder, parse_flag, parse_rating, parse_verdict


def read_scores(path, *given, **how):
    rows = [{"prompt": "p", "response": f"r{n}", "score": score} for n, score in enumerate(given)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [episode.score for episode in read(path, **how)]


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("4/5", Rating(4, 5)),
        (" 4 out of 5 stars", Rating(4, 5)),
        ("4,5 / 5", Rating(4.5, 5)),
        ("80%", Rating(80, 100, is_share=True)),
        ("12.5 %", Rating(12.5, 100, is_share=True)),
        ("3 stars", Rating(3)),
        ("★★★☆☆", Rating(3, 5)),
        ("⭐️⭐️", Rating(2)),
        ("4-star", Rating(4)),
        ("4 star(s)", Rating(4)),
        ("4 pts", Rating(4)),
        ("4.0 / 5.0", Rating(4, 5)),
        ("0.8/1", Rating(0.8, 1, is_share=True)),
        ("4", None),
        ("4/5/2024", None),
        ("C/D", None),
        ("☆☆", None),
        ("4/5 and more", None),
    ],
)
def test_ratings_as_text(text, rating):
    assert parse_rating(text) == rating


@pytest.mark.parametrize(
    ("word", "score"),
    [
        ("👍🏽", 1.0),
        ("👎🏻", 0.0),
        ("✅", 1.0),
        ("❌", 0.0),
        ("Wahr", 1.0),
        ("FAUX", 0.0),
        ("thumbsUp", 1.0),
        ("A+", None),
    ],
)
def test_verdicts_in_signs_and_languages(word, score):
    assert parse_verdict(word) == score


def test_flags_of_spreadsheets_and_databases():
    assert [parse_flag(word) for word in ("WAHR", "VRAI", "t", "Y", "是")] == [True] * 5
    assert [parse_flag(word) for word in ("FALSCH", "FAUX", "f", "N", "否")] == [False] * 5
    assert parse_flag("maybe") is None


def test_percentages_are_shares_whatever_the_declared_scale(tmp_path):
    assert read_scores(tmp_path / "f.jsonl", "80%", "5 %") == [0.8, 0.05]
    assert read_scores(tmp_path / "f.jsonl", "80%", 1, scale=(1, 5)) == [0.8, 0]
    with pytest.raises(DataError, match="score: got '120%'.*expected a number from 0 to 100|score: got 120"):
        read_scores(tmp_path / "f.jsonl", "120%")


def test_out_of_five_needs_a_scale_that_ends_at_five(tmp_path):
    path = tmp_path / "f.jsonl"
    assert read_scores(path, "1/5", "5/5", "★★★☆☆", scale=(1, 5)) == [0, 1, 0.5]
    assert read_scores(path, "1/5", scale=(0, 5)) == [0.2]
    with pytest.raises(DataError, match="got '4/5', which does not say .* Declare the scale: 1 5, or 0 5"):
        read_scores(path, "4/5")
    with pytest.raises(DataError, match="got '4/5', expected a number from 1 to 10"):
        read_scores(path, "4/5", scale=(1, 10))


def test_bare_stars_are_numbers_on_the_declared_scale(tmp_path):
    assert read_scores(tmp_path / "f.jsonl", "⭐", "⭐⭐⭐", scale=(1, 5)) == [0, 0.5]
    with pytest.raises(DataError, match="scores run from 1 to 3"):
        read_scores(tmp_path / "f.jsonl", "⭐", "⭐⭐⭐")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("0.5", "without quotation marks"),
        ("poor", "of words, good, bad, ok"),
        ("nan", "Leave it out"),
        ([1], "Write one number"),
        ({"value": 1}, "Write one number"),
        (True, "Write 1 for true and 0 for false"),
        ("1_0", "without underscores"),
        ("0,5", "a decimal point"),
        (math.inf, "Leave it out"),
    ],
)
def test_what_is_no_score_has_a_remedy_of_its_own(tmp_path, value, remedy):
    with pytest.raises(DataError, match=remedy):
        read_scores(tmp_path / "f.jsonl", value)


def test_critiques_that_stand_for_none_are_told(tmp_path):
    assert is_placeholder(" N/A ") and not is_placeholder("No.")
    (tmp_path / "f.csv").write_text("prompt,response,critique\np,a,N/A\np,b,nan\np,c,nan\np,d,Too long.\n")
    with pytest.warns(UserWarning, match=r"words that say nothing are taught as words: 'N/A' \(1\), 'nan' \(2\)"):
        episodes, _ = read_with_report(tmp_path / "f.csv")
    assert [episode.critique for episode in episodes] == ["N/A", "nan", "nan", "Too long."]
    assert all(math.isnan(episode.score) for episode in episodes)
