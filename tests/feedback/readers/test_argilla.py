"""Argilla's records as its API gives them, and the datasets of its first version, are read as its flat export is."""

import json

import pytest

from feedback.readers import detect, read

FIELDS = {"prompt": "Name a bird.", "response": "A carp."}
SAID = {"user_id": "kim", "status": "submitted"}
DRAFT = {"user_id": "lee", "status": "draft"}
FORMS = {
    "flat": FIELDS
    | {
        "stars.responses": [2, 5],
        "stars.responses.users": ["kim", "lee"],
        "stars.responses.status": ["submitted", "draft"],
        "why.responses": ["A fish."],
        "why.responses.users": ["kim"],
        "why.responses.status": ["submitted"],
        "stars.suggestion": 3,
        "stars.suggestion.agent": "judge",
    },
    "record of version 2": {
        "fields": FIELDS,
        "responses": {"stars": [SAID | {"value": 2}, DRAFT | {"value": 5}], "why": [SAID | {"value": "A fish."}]},
        "suggestions": {"stars": {"value": 3, "agent": "judge", "score": None}},
    },
    "record of version 1": {
        "fields": FIELDS,
        "responses": [
            SAID | {"values": {"stars": {"value": 2}, "why": {"value": "A fish."}}},
            DRAFT | {"values": {"stars": {"value": 5}}},
        ],
        "suggestions": [{"question_name": "stars", "value": 3, "agent": "judge"}],
    },
    "dataset of version 1": FIELDS
    | {
        "stars": [SAID | {"value": 2}, DRAFT | {"value": 5}],
        "why": [SAID | {"value": "A fish."}],
        "why-suggestion": None,
        "why-suggestion-metadata": {"agent": None},
        "stars-suggestion": 3,
        "stars-suggestion-metadata": {"agent": "judge", "type": None},
    },
}


@pytest.mark.filterwarnings("ignore:.*scored several times")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path, form):
    (tmp_path / "f.jsonl").write_text(json.dumps({"id": "1"} | FORMS[form]) + "\n")
    assert detect(tmp_path / "f.jsonl") == "argilla"
    (episode,) = read(tmp_path / "f.jsonl", scale=(1, 5), aggregate="each")
    assert (episode.task.messages[0]["content"], episode.response, episode.critique) == (*FIELDS.values(), "A fish.")
    scores = [(item.source, item.annotator, item.score) for item in episode.feedback if item.name == "stars"]
    assert scores == [("human", "kim", 0.25), ("llm", "judge", 0.5)]  # (2 - 1) / 4 and (3 - 1) / 4; drafts are none
    assert not episode.task.meta


def test_answers_that_are_lists_are_notes(tmp_path):
    row = FIELDS | {"order": [SAID | {"value": [{"value": "a", "rank": 1}]}], "tags": [SAID | {"value": ["x", "y"]}]}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    (episode,) = read(tmp_path / "f.jsonl")
    assert episode.task.meta == {"order": [[{"value": "a", "rank": 1}]], "tags": [["x", "y"]]} and not episode.feedback
