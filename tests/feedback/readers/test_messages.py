"""Messages as SDKs, tables and servers write them: nothing empty is refused, nothing that says something is lost."""

import json

import pandas as pd
import pytest

from feedback.faults import DataError
from feedback.readers import read, read_tasks, stream
from feedback.writers import write_episodes

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a bird."}]
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word":"wren"}'}}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_messages_as_json_text_are_messages(tmp_path):
    packed, answer = json.dumps(CHAT), json.dumps([{"role": "assistant", "content": "A wren."}])
    row = {"prompt": packed, "response": answer, "score": 1}
    pair = {"prompt": packed, "chosen": answer, "rejected": "A carp."}
    whole = {"messages": json.dumps([*CHAT, {"role": "assistant", "content": "A wren."}])}
    for record in (row, {"prompt": packed, "completion": answer}, pair, whole):
        episode = read(lines(tmp_path / "f.jsonl", record))[0]
        assert episode.task.messages == tuple(CHAT) and episode.response == "A wren.", record
    cell = packed.replace('"', '""')
    (tmp_path / "f.csv").write_text(f'prompt,response,score\n"{cell}",A wren.,1\n')
    assert read(tmp_path / "f.csv")[0].task.messages == tuple(CHAT)
    assert read_tasks(tmp_path / "f.csv")[0].messages == tuple(CHAT)


def test_one_message_and_an_object_of_messages_are_a_list(tmp_path):
    said, asked = {"role": "assistant", "content": "A wren."}, CHAT[1]
    shared = {"from": "human", "value": asked["content"]}
    prompts = (asked, json.dumps(asked), json.dumps({"messages": [asked]}), shared, json.dumps([shared]))
    for prompt in prompts:
        for answer in (said, [said], json.dumps(said), {"from": "gpt", "value": said["content"]}):
            (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": prompt, "response": answer, "score": 1}))
            assert episode.task.messages == (asked,) and episode.response == "A wren.", (prompt, answer)
    with pytest.raises(DataError, match="prompt: got .*model beside the messages"):
        read(lines(tmp_path / "f.jsonl", {"prompt": json.dumps({"messages": [asked], "model": "m"}), "response": "r"}))


@pytest.mark.parametrize("text", [str(CHAT)[:-1], '[{"role": "user", "content": "p"}', '[{"content": "p"}]'])
@pytest.mark.parametrize("field", ["prompt", "response"])
def test_a_text_that_begins_as_messages_and_is_none_is_refused_by_name(tmp_path, text, field):
    row = {"prompt": "p", "response": "r", field: text}
    with pytest.raises(DataError, match=f"{field}: got .*, expected text, or messages as JSON .*json.dumps"):
        read(lines(tmp_path / "f.jsonl", row))


def test_json_that_is_no_message_stays_the_users_words(tmp_path):
    for words in ('[{"name": "wren"}]', "[1, 2]", "[a] role", '{"role": "user"}'):
        assert read(lines(tmp_path / "f.jsonl", {"prompt": words, "response": words}))[0].response == words


def test_what_sdks_write_out_empty_is_nothing(tmp_path):
    said = {"content": "A wren.", "refusal": None, "annotations": [], "audio": None, "function_call": None}
    said |= {"role": "assistant", "tool_calls": None, "id": "msg_1", "status": "completed"}
    item = {"turn": 1.0, "score": 1}
    (episode,) = read(lines(tmp_path / "f.jsonl", {"messages": [*CHAT[1:], said], "feedback": [item]}))
    assert (episode.response, episode.score, episode.feedback[0].turn) == ("A wren.", 1, 0)
    with pytest.raises(DataError, match=r"messages\[1\].refusal: got 'I cannot.'"):
        read(lines(tmp_path / "f.jsonl", {"messages": [*CHAT[1:], said | {"refusal": "I cannot."}]}))


def test_a_name_stays_with_its_message(tmp_path):
    prompt = [{"role": "user", "content": "Hello", "name": "ada"}]
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": prompt, "response": "Hi Ada.", "score": 1}))
    assert episode.task.messages == tuple(prompt)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_beside_the_words_is_part_of_the_answer(tmp_path, key):
    said = [{"role": "assistant", "content": "4", key: "two and two"}]
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": CHAT, "completion": said, "label": True}))
    assert episode.response == "<think>\ntwo and two\n</think>\n\n4"
    told = [{"role": "assistant", "content": "<think>\nx\n</think>\n\n4", key: "x"}]
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": CHAT, "completion": told, "label": True}))
    assert episode.response == told[0]["content"]  # it is there already


def test_calls_of_the_history_are_objects_and_those_of_an_answer_stay_as_written(tmp_path):
    asked = [CHAT[1], {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    asked.append({"role": "tool", "tool_call_id": "c1", "content": "a bird"})
    said = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": asked, "completion": said}))
    assert episode.task.messages[1]["tool_calls"][0]["function"]["arguments"] == {"word": "wren"}
    assert episode.turns[0].calls == ({"id": "c1", "name": "look_up", "arguments": '{"word":"wren"}'},)
    write_episodes(tmp_path / "e.jsonl", [episode])
    assert list(stream(tmp_path / "e.jsonl")) == [episode]
    broken = {"function": {"name": "look_up", "arguments": '{"word":'}}
    asked[1] = asked[1] | {"tool_calls": [broken]}
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": asked, "response": "r"}))
    assert episode.task.messages[1]["tool_calls"][0]["function"]["arguments"] == '{"word":'


@pytest.mark.parametrize(
    ("given", "read_as"), [(json.dumps('{"a": 1}'), '{"a": 1}'), ('"a"', '"a"'), ('"{', '"{'), ('{"a": 1}', '{"a": 1}')]
)
def test_arguments_that_were_encoded_twice_are_decoded_once(tmp_path, given, read_as):
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": given}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    (episode,) = read(lines(tmp_path / "f.jsonl", {"messages": [*CHAT, said], "score": 1}))
    assert episode.turns[0].calls[0]["arguments"] == read_as


def test_an_old_function_call_is_a_tool_call(tmp_path):
    said = {"role": "assistant", "content": None, "function_call": {"name": "look_up", "arguments": "{}"}}
    (episode,) = read(lines(tmp_path / "f.jsonl", {"messages": [*CHAT, said]}))
    assert episode.turns[0].calls == ({"id": "call-0", "name": "look_up", "arguments": "{}"},)


def test_tools_are_carried_on_the_task_as_a_list(tmp_path):
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    for given in (tools, json.dumps(tools)):
        for record in ({"prompt": "p", "response": "r"}, {"prompt": "p", "completion": "r"}):
            (episode,) = read(lines(tmp_path / "f.jsonl", record | {"tools": given}))
            assert episode.task.meta["tools"] == tools
            assert read_tasks(tmp_path / "f.jsonl")[0].meta["tools"] == tools
    (episode,) = read(lines(tmp_path / "f.jsonl", {"prompt": "p", "response": "r", "tools": "hammer"}))
    assert episode.task.meta["tools"] == "hammer"
    with pytest.raises(DataError, match="tools: got .*, expected a list of tools as JSON"):
        read(lines(tmp_path / "f.jsonl", {"prompt": "p", "response": "r", "tools": "[{'type': 'function'"}))


def test_messages_in_pythons_notation_are_read_as_pandas_writes_them(tmp_path):
    asked = {"role": "user", "content": 'Say "it\'s"\nnow.', "weight": None}
    call = {"id": "c", "function": {"name": "look", "arguments": "{}"}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    frame = pd.DataFrame({"messages": [[asked, said]], "tools": [[{"type": "function", "strict": True}]], "score": [1]})
    frame.to_csv(tmp_path / "f.csv", index=False)
    (episode,) = read(tmp_path / "f.csv")
    assert episode.task.messages == ({"role": "user", "content": asked["content"]},)
    assert episode.turns[0].calls == ({"id": "c", "name": "look", "arguments": "{}"},)
    assert episode.task.meta["tools"] == [{"type": "function", "strict": True}]


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user', 'content': __import__('os').getcwd()}]",
        "[{'role': 'user', 'content': b'p'}]",
        "[{'role': 'user', 'content': 'p', 'content': 'q'}]",
        "[{'role': 'user', 'content': 'p'}\n {'role': 'user', 'content': 'p'}]",
        "[{'role': 'user', 'content': " + "[" * 5000 + "]" * 5000 + "}]",
    ],
)
def test_pythons_notation_of_anything_else_is_refused_in_one_message(tmp_path, text):
    for row in ({"prompt": text, "response": "r"}, {"messages": text}):
        with pytest.raises(DataError, match="got .*, expected text, or messages as JSON .*json.dumps") as found:
            read(lines(tmp_path / "f.jsonl", row))
        assert not found.value.others


def test_what_wildchat_notes_of_a_message_is_left_out_and_what_its_filter_found_is_not(tmp_path):
    notes = {"country": "US", "state": "Texas", "language": "English", "hashed_ip": "1", "header": {"a": 1}}
    said = [{"role": "user", "content": "Hi", "toxic": False, "turn_identifier": 1, "redacted": False} | notes]
    said.append({"role": "assistant", "content": "Hello.", "toxic": False, "language": "English"})
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"messages": said, "score": 1}) + "\n")
    (episode,) = read(path)
    assert episode.task.messages == ({"role": "user", "content": "Hi"},)
    said[1]["toxic"] = True
    path.write_text(json.dumps({"messages": said, "score": 1}) + "\n")
    with pytest.raises(DataError, match=r"messages\[1\].toxic: got True.*or delete the key"):
        read(path)
