"""What a policy should read and would not: an input, earlier turns or pictures beside the prompt are told."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read

ROW = {"prompt": "Sum it up.", "response": "A wren sings."}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["input", "Context", "history", "images"])
@pytest.mark.parametrize("answer", ["response", "completion", "messages", None])
def test_an_input_beside_the_prompt_is_told_and_kept_as_a_note_by_a_map(tmp_path, name, answer):
    value = {"history": [["Name a bird.", "A wren."]], "images": ["a.png"]}.get(name, "A wren is a bird.")
    said = {"role": "assistant", "content": "A wren sings."}
    row = {"prompt": "Sum it up.", answer: "A wren sings."} if answer else {"prompt": "Sum it up."}
    row = {"messages": [{"role": "user", "content": "Sum it up."}, said]} if answer == "messages" else row
    with pytest.raises(DataError, match=f"what may be a part of the prompt: '{name}'.*--map meta.{name}={name}"):
        read(lines(tmp_path / "f.jsonl", row | {name: value}))
    (episode,) = read(lines(tmp_path / "f.jsonl", row | {name: value}), columns={f"meta.{name}": name})
    assert episode.task.meta == {name: value}


def test_alpacas_input_is_told_after_the_map_that_reads_the_rest(tmp_path):
    path = lines(tmp_path / "f.jsonl", {"instruction": "Sum it up.", "input": "A wren sings.", "output": "It sings."})
    with pytest.raises(DataError, match="what may be a part of the prompt: 'input'"):
        read(path, columns={"prompt": "instruction", "response": "output"})


def test_an_empty_input_and_other_notes_are_nothing(tmp_path):
    (episode,) = read(lines(tmp_path / "f.jsonl", ROW | {"input": "", "images": [], "question": "7 + 8"}))
    assert episode.task.meta == {"input": "", "images": [], "question": "7 + 8"}
