"""Strategic grams: how they are counted, which are kept, and where a text holds them; by hand."""

import json

import pytest

from feedback.faults import DataError
from feedback.grams import Grams, load_grams, mine_grams
from feedback.grams.mining import count_grams, count_solutions
from feedback.grams.words import extract_ngrams, normalize_words

SOLUTIONS = [
    "Let me check the sum. So x is 2.",
    "Let me check it again: let me check it again! Let me check it again.",
    "Now let me check whether it holds. Two cats sat down here.",
    "Two cats sat down here.",
]


def test_grams_are_words_of_one_sentence():
    found = [item.gram for item in extract_ngrams("Wait, let's SEE. It is\nso", (2, 3))]
    # "Wait let's see" is a sentence of three words, "It is" one of two, and "so" stands alone.
    assert found == ["wait let's", "let's see", "wait let's see", "it is"]
    assert [item.gram for item in extract_ngrams("so x = 2 and y is 3 then we", (2,))] == [
        "so x",
        "and y",
        "y is",
        "then we",
    ]
    assert normalize_words("  Let’s   SEE! ") == "let's see"


def test_places_are_characters_of_the_text():
    text = "Hm, let me  Check."
    (found,) = Grams(["Let me check"]).find_spans(text)
    assert (found.gram, text[found.start : found.end]) == ("let me check", "let me  Check")
    said, either = "Wait! So then wait", Grams(["wait", "so then"])
    assert either.find_spans(said) == Grams(["SO THEN", "Wait,"]).find_spans(said)
    assert [item.gram for item in either.find_spans(said)] == ["wait", "wait", "so then"]
    assert Grams(["let me check"]).find_spans("let me. check") == []


def test_a_phrase_that_one_solution_repeats_counts_once():
    nine = " ".join(["do it now."] * 9)
    found = count_grams([nine, "do it now, friend"], (3,), min_solutions=1)
    assert found.solutions["do it now"] == 2 and found.occurrences["do it now"] == 10
    assert mine_grams([nine], (3,), top_share=1.0, min_solutions=1)[0].frequency == 1
    assert mine_grams([nine, nine], (3,), top_share=1.0, min_solutions=2) == [], "equal solutions are one"


def test_the_top_share_by_document_frequency():
    """Of 3-grams, "let me check" stands in 3 solutions; "me check it", "check it again" in 1; "two cats sat", "cats sat
    down", "sat down here" in 2. Candidates of 2 solutions and more: 4, so the top 20 % is one, the top half two."""
    (only,) = mine_grams(SOLUTIONS, (3,))
    assert (only.gram, only.frequency, only.solutions, only.cluster) == ("let me check", 3, 3, 0)
    half = mine_grams(SOLUTIONS, (3,), top_share=0.5)
    assert [item.gram for item in half] == ["let me check", "cats sat down"], "equals go by their number, then by name"
    assert len(mine_grams(SOLUTIONS, (3,), top_share=1.0)) == 4


def test_a_cluster_counts_the_solutions_that_hold_any_of_its_grams():
    number = {"let me check": 0, "two cats sat": 0, "sat down here": 1}
    assert count_solutions(SOLUTIONS, (3,), number) == {0: 4, 1: 2}
    first = ("let me check", "two cats sat")
    together = mine_grams(
        SOLUTIONS, (3,), top_share=0.5, cluster=lambda grams: [int(gram not in first) for gram in grams]
    )
    # Clusters {let me check, two cats sat} in 4 solutions and {cats sat down, sat down here} in 2: half of two is one.
    assert [(item.gram, item.frequency, item.solutions) for item in together] == [
        ("let me check", 4, 3),
        ("two cats sat", 4, 2),
    ]


def test_a_file_of_grams(tmp_path):
    path = tmp_path / "grams.json"
    path.write_text(json.dumps({"grams": [{"gram": "let me check"}, {"gram": "so then"}]}))
    assert load_grams(path).grams == {"let me check", "so then"} and load_grams(path).lengths == [2, 3]
    (tmp_path / "list.json").write_text('["Wait,", "so"]')
    assert load_grams(tmp_path / "list.json").grams == {"wait", "so"}


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "nothing there"),
        ("{", "bad JSON"),
        ("{}", "a list that is not empty"),
        ("[]", "a list that is not empty"),
        ('[{"gram": 3}]', "'gram': 3"),
        ('["..."]', "a phrase"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path, text, words):
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=words):
        load_grams(path)
