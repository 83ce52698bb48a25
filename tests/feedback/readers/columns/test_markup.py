"""A chat template that was already applied is told, not trained on as words."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read, read_tasks


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("start", ["<|im_start|>user\n", "<bos><start_of_turn>user\n", "[INST] ", "<s>[INST] "])
def test_prompts_that_begin_with_a_mark_are_told(tmp_path, start):
    rows = [{"prompt": f"{start}ask {number}", "response": "said", "score": 1} for number in range(3)]
    with pytest.raises(DataError, match="a chat template already applied.*list of messages"):
        read(write(tmp_path / "f.jsonl", *rows))
    with pytest.raises(DataError, match="a chat template already applied"):
        read_tasks(write(tmp_path / "f.jsonl", *({"prompt": row["prompt"]} for row in rows)))


@pytest.mark.parametrize("end", ["<|im_end|>", "<|eot_id|>\n", "</s>"])
def test_answers_that_end_with_a_mark_are_told(tmp_path, end):
    rows = [{"prompt": "ask", "response": f"said {number}{end}", "score": 1} for number in range(3)]
    with pytest.raises(DataError, match="every answer ends with .*Remove it"):
        read(write(tmp_path / "f.jsonl", *rows))


def test_words_about_a_template_are_words(tmp_path):
    rows = [
        {"prompt": "<|im_start|> is which token?", "response": "A mark: <|im_end|>", "score": 1},
        {"prompt": "What is <|im_start|>?", "response": "A mark.", "score": 1},
    ]
    assert len(read(write(tmp_path / "f.jsonl", *rows))) == 2
    assert len(read(write(tmp_path / "f.jsonl", {"prompt": "p", "response": "</s>", "score": 1}))) == 1
