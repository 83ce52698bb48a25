"""What is measured, where the config leaves that to the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdt.data.splits import DataSplits, Target, add_rejected, find_targets, load_from_file, select_heldout
from fdt.errors import UserError
from fdt.evaluation import Answers, Likelihood, PassAtK
from fdt.evaluation.choices import check_grader, choose_evaluation
from feedback.readers import read
from feedback.types import Episode, Feedback, Task, Turn

PLAIN = '"prompt": "p{n}", "response": "r{n}"'


def load(tmp_path: Path, *rows: str, heldout: float = 0.5) -> DataSplits:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join("{" + row.replace("{n}", str(n)) + "}\n" for n, row in enumerate(rows)))
    return load_from_file(str(path), "auto", None, heldout, 0)


def test_answers_where_something_scores_them(tmp_path: Path):
    data = load(tmp_path, *[PLAIN + ', "score": 1, "reference": "x"'] * 6)
    found, tasks = choose_evaluation(None, True, data)
    assert isinstance(found, Answers)
    assert tasks == data.heldout


@pytest.mark.parametrize(
    "extra, texts",
    [
        (', "score": 1, "reference": "ref{n}", "revision": "better{n}"', "ref{n}"),
        (', "score": 1, "revision": "better{n}"', "better{n}"),
    ],
)
def test_likelihood_of_references_then_of_corrections(tmp_path: Path, extra: str, texts: str):
    data = load(tmp_path, *[PLAIN + extra] * 8)
    found, tasks = choose_evaluation(None, False, data)
    assert isinstance(found, Likelihood)
    assert tasks
    assert all(task.reference == texts.replace("{n}", task.messages[-1]["content"][1:]) for task in tasks)


def test_likelihood_of_what_was_rated_well(tmp_path: Path):
    rows = [PLAIN + f', "score": {n % 2}' for n in range(20)]
    _, tasks = choose_evaluation(None, False, load(tmp_path, *rows))
    known = {task.messages[-1]["content"]: task.reference for task in tasks}
    assert {text for prompt, text in known.items() if int(prompt[1:]) % 2 == 0} == {None}
    assert all(text == f"r{prompt[1:]}" for prompt, text in known.items() if int(prompt[1:]) % 2)


def list_rejected(data: DataSplits) -> dict[str, str | None]:
    return {task.messages[-1]["content"]: task.rejected for task in choose_evaluation(None, False, data)[1]}


def test_beside_a_correction_stands_the_answer_that_it_corrects(tmp_path: Path):
    found = list_rejected(load(tmp_path, *[PLAIN + ', "score": 1, "revision": "better{n}"'] * 8))
    assert found and all(worse == f"r{prompt[1:]}" for prompt, worse in found.items())
    same = load(tmp_path, *[PLAIN + ', "revision": " r{n}"'] * 8)
    assert set(list_rejected(same).values()) == {None}, "an answer is not compared with itself"


@pytest.mark.parametrize("extra", ["", ', "reference": "ref"'])
def test_beside_a_good_text_stands_the_answer_that_was_rated_worst(tmp_path: Path, extra: str):
    one = '"prompt": "p", "response": "{}", "score": {}'
    rows = [one.format(*pair) + extra for pair in (("bad", 0.1), ("worst", 0.0), ("good", 1.0))]
    rated = ['"prompt": "low", "response": "only", "score": 0', '"prompt": "high", "response": "only", "score": 1']
    path = tmp_path / "rated.jsonl"
    path.write_text("".join(f"{{{row}}}\n" for row in [*rows, *(row + extra for row in rated)]))
    episodes = read(path)
    key = {episode.task.messages[-1]["content"]: episode.task.key for episode in episodes}
    found = add_rejected(find_targets(episodes)[0], episodes)
    assert found[key["p"]].rejected == "worst"
    assert found[key["high"]].rejected is None
    # Without a reference, a bad answer alone has nothing to stand beside.
    assert (found[key["low"]].rejected == "only") if extra else key["low"] not in found


@pytest.mark.parametrize("turn, heard, texts", [(None, ["a", "?"], ("b", "c")), (0, [], ("a", "c"))])
def test_a_correction_is_measured_where_it_was_given(tmp_path: Path, turn: int | None, heard: list[str], texts: tuple):
    said = [("assistant", "a"), ("user", "?"), ("assistant", "b")]
    turns = tuple(Turn(role, text) for role, text in said)
    asked = Task("k", ({"role": "user", "content": "p"},))
    episode = Episode("e", asked, turns, (Feedback(text="Not so.", turn=0), Feedback(revision="c", turn=turn)))
    targets, kind = find_targets([episode])
    task = targets["k"].attach(asked)
    assert kind == "corrections" and (task.rejected, task.reference) == texts
    assert [message["content"] for message in task.messages] == ["p", *heard]


def test_answers_after_different_turns_are_not_compared(tmp_path: Path):
    def build(name: str, first: str, score: float) -> Episode:
        called = Turn("assistant", first, calls=({"id": "c", "name": "look", "arguments": "{}"},))
        turns = (called, Turn("tool", "?", call_id="c"), Turn("assistant", name))
        return Episode(name, Task("k", ({"role": "user", "content": "p"},)), turns, (Feedback(score=score),))

    def find(*episodes: Episode) -> Target:
        return add_rejected(find_targets(episodes)[0], episodes)["k"]

    good = build("good", "a", 1.0)
    assert find(good, build("bad", "other", 0.0)).rejected is None
    found = find(good, build("bad", "a", 0.0))
    assert (found.text, found.rejected, [turn.text for turn in found.context]) == ("good", "bad", ["a", "?"])


def test_nothing_to_measure_by_is_refused_and_not_measured_on_no_prompt(tmp_path: Path):
    data = load(tmp_path, *[PLAIN + ', "critique": "Shorter."'] * 6)
    for given in (None, Likelihood()):
        with pytest.raises(UserError, match="nothing to measure by"):
            choose_evaluation(given, False, data)


def test_what_the_config_names_stands(tmp_path: Path):
    data = load(tmp_path, *[PLAIN + ', "revision": "x"'] * 6)
    given = PassAtK(samples=8)
    assert choose_evaluation(given, True, data) == (given, data.heldout)
    for given, on_policy in ((Answers(), False), (None, True)):
        with pytest.raises(UserError, match="no grader"):
            check_grader(given, False, on_policy)


def test_of_a_few_prompts_one_is_held_out():
    keys = [f"k{n}" for n in range(4)]
    assert len(select_heldout(keys, 1e-9, 0)) == 1
    assert select_heldout(keys, 1e-9, 0, ["k2"]) == {"k2"}
    assert select_heldout(keys, 0.0, 0) == set()
    assert select_heldout(keys[:1], 1e-9, 0) == set()


def test_more_rows_move_no_prompt_to_the_other_side():
    few, many = [f"k{n}" for n in range(200)], [f"k{n}" for n in range(400)]
    assert select_heldout(few, 0.2, 1) == select_heldout(many, 0.2, 1) & set(few)
    assert 20 < len(select_heldout(few, 0.2, 1)) < 60
    assert select_heldout(few, 0.2, 1) != select_heldout(few, 0.2, 2)
