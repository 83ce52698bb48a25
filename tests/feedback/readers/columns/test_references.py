"""The right answer under a name that nobody reads is told, in files of rows, of prompts and of held-out prompts."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_tasks

PROMPT = {"prompt": [{"role": "user", "content": "1 + 2?"}]}
VERL = PROMPT | {"data_source": "sums", "reward_model": {"style": "rule", "ground_truth": "3"}, "extra_info": {"n": 0}}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "typed"),
    [
        (PROMPT | {"solution": "3"}, "reference=solution"),
        (PROMPT | {"ground_truth": 3}, "reference=ground_truth"),
        (PROMPT | {"target": "3"}, "reference=target"),
        (VERL, "reference=reward_model.ground_truth"),
        (PROMPT | {"response": "4", "score": 0, "gold_answer": "3"}, "reference=gold_answer"),
        (PROMPT | {"response": "4", "score": 0, "Expected output": "3"}, 'reference="Expected output"'),
        ({"prompt": "1 + 2?", "completion": "4", "label": False, "solution": "3"}, "reference=solution"),
    ],
)
def test_a_right_answer_is_named_and_the_map_reads_it(tmp_path, row, typed):
    path = write(tmp_path / "f.jsonl", row)
    with pytest.raises(DataError, match="a right answer that nothing reads") as error:
        read(path)
    assert f"--map {typed} to read it" in str(error.value)
    column = typed.removeprefix("reference=").strip('"')
    assert [episode.task.reference for episode in read(path, columns={"reference": column})] == ["3"]
    (kept,) = read(path, columns={"meta.right": column})
    assert kept.task.reference is None and str(kept.task.meta["right"]) == "3"


@pytest.mark.parametrize("row", [PROMPT | {"solution": "3"}, PROMPT | {"answer": "3"}, VERL])
def test_held_out_prompts_are_looked_at_alike(tmp_path, row):
    path = write(tmp_path / "f.jsonl", row)
    with pytest.raises(DataError, match="--map reference="):
        read_tasks(path)
    column = "reward_model.ground_truth" if row is VERL else list(row)[-1]
    assert [task.reference for task in read_tasks(path, {"reference": column})] == ["3"]
    assert [task.reference for task in read_tasks(path, {"meta.right": column})] == [None]
    with pytest.raises(DataError, match="what may be a part of the prompt: 'context'"):
        read_tasks(write(tmp_path / "g.jsonl", PROMPT | {"context": "words"}))


@pytest.mark.parametrize("name", ["solution_id", "reference_url", "model_solution_time", "answer_length"])
def test_what_is_about_a_reference_is_a_note(tmp_path, name):
    (episode,) = read(write(tmp_path / "f.jsonl", PROMPT | {name: "3"}))
    assert episode.task.meta == {name: "3"}


def test_a_reference_that_is_read_makes_another_column_a_note(tmp_path):
    (episode,) = read(write(tmp_path / "f.jsonl", PROMPT | {"reference": 3, "solution": "1 + 2 = 3"}))
    assert (episode.task.reference, episode.task.meta) == ("3", {"solution": "1 + 2 = 3"})
    (row,) = read(write(tmp_path / "f.jsonl", PROMPT | {"response": "4", "score": 0, "answer": "3"}))
    assert row.task.meta == {"answer": "3"}  # beside a response an answer may be anything
