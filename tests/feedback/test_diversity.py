"""Measures of diversity by hand."""

import itertools
import math
import random

import pytest

from feedback.diversity import (
    cluster_by_linkage,
    cluster_texts,
    compute_chrf,
    compute_unique_share,
    distinct_n,
    extract_actions,
    extract_final_answer,
    group_solutions,
    pass_at_k,
    pass_at_k_turns,
)
from feedback.types import Episode, Task, Turn


@pytest.mark.parametrize(
    "n, c, k, expected",
    [
        (10, 3, 5, 0.9167),  # 1 - C(7,5)/C(10,5) = 1 - 21/252
        (64, 8, 4, 0.4219),
        (4, 1, 1, 0.25),  # the share of solved samples
        (5, 3, 3, 1.0),  # two failures cannot fill three places
        (8, 0, 8, 0.0),
    ],
)
def test_pass_at_k_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=5e-5)


def test_pass_at_k_is_the_mean_over_all_subsets():
    outcomes = [1, 0, 0, 1, 0, 0, 0]
    subsets = list(itertools.combinations(outcomes, 3))
    assert pass_at_k(7, 2, 3) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize("n, c, k", [(4, 1, 5), (4, 5, 2), (4, -1, 2), (4, 1, 0)])
def test_numbers_that_cannot_be_are_refused(n, c, k):
    with pytest.raises(ValueError, match="expected 1 <= k <= n"):
        pass_at_k(n, c, k)


def test_a_turn_budget_counts_what_was_solved_within_it():
    attempts = [(True, 1), (True, 4), (False, 2), (True, 3)]
    found = [pass_at_k_turns(attempts, 2, turns) for turns in (0, 1, 3, 4)]
    # solved within: 0, 1, 2, 3 of 4; 1 - C(4-c,2)/C(4,2) = 0, 1 - 3/6, 1 - 1/6, 1
    assert found == pytest.approx([0.0, 0.5, 5 / 6, 1.0])


def test_distinct_n_by_hand():
    texts = ["a b a b", "A b c"]
    assert distinct_n(texts, 1) == pytest.approx(3 / 7)
    assert distinct_n(texts, 2) == pytest.approx(3 / 5)  # ab ba ab | ab bc
    assert distinct_n(texts, 4) == 1.0 and math.isnan(distinct_n(["a", ""], 2))


def test_action_sequences_are_compared_turn_by_turn():
    task = Task("t", ())

    def played(*texts):
        turns = [Turn(role, text) for text in texts for role, text in (("assistant", text), ("user", "seen"))]
        return extract_actions(Episode("e", task, tuple(turns)))

    assert played("Go  left", "up") == played("go left", "UP\n") != played("up", "go left")
    assert compute_unique_share([played("a"), played("a", "b"), played("A"), played("a b")]) == 0.75
    called = Turn("assistant", "so", calls=({"id": "1", "name": "add", "arguments": '{"a": 1}'},))
    assert extract_actions(Episode("e", task, (called,))) == ('add({"a": 1})',) and math.isnan(compute_unique_share([]))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It is 3 or 12.", "12"),
        ("so 1,000.0", "1E+3"),
        ("1e3", "1E+3"),
        (r"\boxed{The  Blue one}", "blue one"),
        (r"\boxed{x+1}", "x1"),
        ("<answer>7</answer> of 9", "7"),
        ("<answer> Paris 2 </answer>", "paris 2"),
        ("none", None),
    ],
)
def test_the_answer_a_text_comes_to(text, expected):
    assert extract_final_answer(text) == expected


def test_long_numbers_stay_apart():
    assert extract_final_answer("1" * 40) != extract_final_answer("1" * 39 + "2")


def test_average_linkage_by_hand():
    # Likenesses 12: 80, 13: 20, 23: 30. 1 and 2 join at 80; the third is then (20 + 30) / 2 = 25 alike, below 60.
    near = [[100, 80, 20], [80, 100, 30], [20, 30, 100]]
    assert (
        cluster_by_linkage(near, 60) == [0, 0, 1]
        and cluster_by_linkage(near, 25) == [0, 0, 0]
        and cluster_by_linkage(near, 81) == [0, 1, 2]
    )
    # An item that stands for three weighs three: (3·20 + 30) / 4 = 22.5.
    assert cluster_by_linkage(near, 23, [3, 1, 1]) == [0, 0, 1] and cluster_by_linkage(near, 22.5, [3, 1, 1]) == [
        0,
        0,
        0,
    ]


def test_likeness_by_hand():
    # abcd and abce share 3 of 4 letters, 2 of 3 pairs, 1 of 2 triples, 0 of 1: (3/4 + 2/3 + 1/2 + 0) / 4, both ways.
    assert compute_chrf("abcd", "abce") == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2) / 4)
    assert (
        compute_chrf("ab", "abab")
        == compute_chrf("abab", "ab")
        == pytest.approx(200 * 1.0 * (0.5 + 1 / 3) / 2 / (1 + 5 / 12))
    )
    assert compute_chrf("a b c", "abc") == 100.0 and compute_chrf("", "") == 100.0 == compute_chrf("x", "x")
    assert compute_chrf("", "x") == 0.0 == compute_chrf("abc", "xyz")


def test_solutions_count_answers_and_group_the_rest():
    long = "Take the left door, then follow the corridor to the garden"
    texts = ["it is 4", "4", "so 5", long, long + " wall", "Ask somebody who has been there before"]
    found = group_solutions(texts)
    assert found[0] == found[1] and found[3] == found[4] and len(set(found)) == 4
    assert group_solutions(["a", "b", "a"], final=lambda text: text) == [0, 1, 0] and group_solutions([]) == []


def test_groups_do_not_depend_on_the_order():
    random.seed(0)
    words = ["red green blue", "red green black", "seven eight nine", "seven eight ten", "to be or not"]
    for _ in range(5):
        order = random.sample(words, len(words))
        groups = dict(zip(order, cluster_texts(order), strict=True))
        assert groups["red green blue"] == groups["red green black"] != groups["to be or not"]
        assert groups["seven eight nine"] == groups["seven eight ten"]
