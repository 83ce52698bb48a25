"""What a message holds beside its words is read or refused: arguments, roles, notes, and why an answer ended."""

import json

import pytest

from feedback.faults import DataError
from feedback.readers import read

ASKED = {"role": "user", "content": "Name a bird."}
SAID = {"role": "assistant", "content": "A wren."}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_one(tmp_path, *messages, **more):
    (episode,) = read(lines(tmp_path / "f.jsonl", {"messages": [ASKED, *messages], "score": 1, **more}))
    return episode


@pytest.mark.parametrize("key", ["arguments", "args", "parameters", "input"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_a_call_is_made_with_is_read_under_the_names_in_use(tmp_path, key, packed):
    calls = [{"id": "1", "type": "tool_call", "name": "look_up", key: {"word": "wren"}}]
    message = {"role": "assistant", "content": "", "tool_calls": json.dumps(calls) if packed else calls}
    (call,) = read_one(tmp_path, message).turns[0].calls
    assert call == {"id": "1", "name": "look_up", "arguments": '{"word": "wren"}'}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "tool_use", "id": "1", "name": "look_up", "input": {}}, "into tool_calls"),
        ({"type": "tool_result", "tool_use_id": "1", "content": "A bird."}, "role: tool"),
        ({"type": "thinking", "thinking": "Hm."}, "reasoning_content"),
        ({"type": "image", "source": {}}, "Pictures and sounds"),
    ],
)
def test_where_a_part_of_a_message_belongs_is_said(tmp_path, part, said):
    with pytest.raises(DataError, match=said):
        read_one(tmp_path, {"role": "assistant", "content": [{"type": "text", "text": "So."}, part]})


def test_a_question_without_words_is_refused(tmp_path):
    for row in ({"prompt": [ASKED | {"content": ""}], "response": "a"}, {"messages": [ASKED | {"content": ""}, SAID]}):
        with pytest.raises(DataError, match="content: got '', expected what was asked"):
            read(lines(tmp_path / "f.jsonl", row | {"score": 1}))


def test_what_a_call_would_lose_is_refused(tmp_path):
    call = {"id": "1", "function": {"name": "look_up", "arguments": "{}", "body": "wren"}}
    with pytest.raises(DataError, match=r"tool_calls\[0\].function.body: got 'wren', expected no such key"):
        read_one(tmp_path, {"role": "assistant", "tool_calls": [call]})
    with pytest.raises(DataError, match=r"tool_calls: got 'look_up\(wren\)', expected a list"):
        read_one(tmp_path, {"role": "assistant", "tool_calls": "look_up(wren)"})


def test_roles_in_any_case_and_under_the_key_type_are_read(tmp_path):
    messages = [{"type": "system", "content": "s"}, {"role": "User", "content": "p"}]
    messages += [{"role": "Chatbot", "content": "a"}, {"role": "observation", "content": "o"}, {"type": "ai"} | SAID]
    (episode,) = read(lines(tmp_path / "f.jsonl", {"messages": messages, "score": 1}))
    assert [message["role"] for message in episode.task.messages] == ["system", "user"]
    assert [turn.role for turn in episode.turns] == ["assistant", "tool", "assistant"]


@pytest.mark.parametrize("field", ["rating", "comment", "correction"])
def test_feedback_in_the_notes_of_a_message_is_refused(tmp_path, field):
    value = {"rating": 4, "comment": "In Africa.", "correction": "A carp."}[field]
    with pytest.raises(DataError, match=rf"messages\[1\].metadata.{field}: got .*expected no feedback in the notes"):
        read_one(tmp_path, SAID | {"metadata": {field: value}})
    assert read_one(tmp_path, SAID | {"metadata": {"model": "m"}}).score == 1


def test_why_an_answer_ended_is_heard_in_its_message_and_in_notes(tmp_path):
    cut = {"finish_reason": "length"}
    assert read_one(tmp_path, SAID | cut).is_cut_off
    assert not read_one(tmp_path, SAID | cut, ASKED, SAID).is_cut_off
    row = {"prompt": "p", "response": "r", "score": 1}
    for more in ({"usage": {"stop_reason": "max_tokens"}}, {"response": SAID | cut}, {"response_metadata": cut}):
        (episode,) = read(lines(tmp_path / "f.jsonl", row | more))
        assert episode.is_cut_off, more
    assert not read(lines(tmp_path / "f.jsonl", row | {"usage": {"stop_reason": "end_turn"}}))[0].is_cut_off


@pytest.mark.parametrize("field", ["prompt", "response", "completion"])
def test_an_answer_beside_messages_that_hold_one_is_refused_or_kept_as_a_note(tmp_path, field):
    with pytest.raises(DataError, match=f"{field}: got 'A carp.', expected no answer or prompt beside messages"):
        read_one(tmp_path, SAID, **{field: "A carp."})
    row = {"messages": [ASKED, SAID], "score": 1, field: "A carp."}
    (episode,) = read(lines(tmp_path / "f.jsonl", row), columns={f"meta.{field}": field})
    assert episode.task.meta == {field: "A carp."}
