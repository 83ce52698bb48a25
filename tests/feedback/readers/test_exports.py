"""What tools export in their other forms: annotations of one task, branches of a chat, calls beside the words."""

import json
from pathlib import Path

import pytest

from feedback.faults import DataError
from feedback.readers import detect, read, stream

FILES = Path(__file__).parent / "files"

pytestmark = pytest.mark.filterwarnings("ignore:.*scored several times")
FLAT = (
    "annotation_id,annotator,comment,created_at,id,lead_time,prompt,rating,response,updated_at,why\n"
    "7,3,A fish.,2024-01-01,1,4.2,Name a bird.,2,A carp.,2024-01-01,Scales.\n"
    "8,4,No bird.,2024-01-01,1,4.2,Name a bird.,1,A carp.,2024-01-01,\n"
)


def test_annotations_of_one_task_in_label_studios_csv_are_one_episode(tmp_path):
    (tmp_path / "f.csv").write_text(FLAT)
    assert detect(tmp_path / "f.csv") == "label-studio-min"
    (episode,) = read(tmp_path / "f.csv", scale=(1, 5), aggregate="each")
    assert (episode.id, episode.response, episode.critique) == ("1", "A carp.", "A fish.\nNo bird.")
    scores = [(item.annotator, item.score) for item in episode.feedback if item.name == "rating"]
    assert scores == [("3", 0.25), ("4", 0)]  # (2 - 1) / 4 and (1 - 1) / 4
    assert episode.task.meta == {"why": "Scales."}
    (named,) = read(tmp_path / "f.csv", "label-studio-min:critique=why", (1, 5))
    assert named.critique == "A fish.\nScales.\nNo bird."


def test_label_answers_are_scores_and_may_be_asked_for(tmp_path):
    def ask(*answers):
        rows = [
            {"prompt": "p", "response": str(n), "verdict.responses": [said], "verdict.responses.status": ["submitted"]}
            for n, said in enumerate(answers)
        ]
        (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "f.jsonl"

    bad, good, words = read(ask("bad", "Good", "It is good."))
    assert (bad.score, good.score, bad.critique, words.critique) == (0, 1, None, "It is good.")
    with pytest.raises(DataError, match="verdict: got 'spam', expected a finite number"):
        read(ask("spam"), "argilla:score=verdict")


def test_labels_of_label_studio_that_are_verdicts_are_scores(tmp_path):
    def choose(question, label):
        return {"from_name": question, "to_name": "r", "type": "choices", "value": {"choices": [label]}}

    annotation = {"completed_by": 3, "result": [choose("verdict", "Bad"), choose("kind", "fish")]}
    row = {"id": 1, "data": {"prompt": "p", "response": "r"}, "annotations": [annotation]}
    (tmp_path / "f.json").write_text(json.dumps([row]))
    (episode,) = read(tmp_path / "f.json")
    assert [(item.name, item.score) for item in episode.feedback] == [("verdict", 0)]
    assert [each["from_name"] for each in episode.task.meta["results"]] == ["kind"]


def test_words_in_the_place_of_a_dialogues_feedback_are_refused_with_their_map(tmp_path):
    chat = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]
    (tmp_path / "f.jsonl").write_text(json.dumps({"messages": chat, "feedback": "No."}) + "\n")
    with pytest.raises(DataError, match="feedback: got 'No.', expected a list of judgements.*--map critique=feedback"):
        read(tmp_path / "f.jsonl")
    assert read(tmp_path / "f.jsonl", columns={"critique": "feedback"})[0].critique == "No."


def test_branches_of_a_chat_are_answers_to_one_prompt(tmp_path):
    def say(name, parent, role, content, **more):
        return {"id": name, "parentId": parent, "role": role, "content": content, **more}

    nodes = [
        say("m1", None, "user", "Name a bird."),
        say("m2", "m1", "assistant", "A carp.", annotation={"rating": -1, "comment": "A fish."}),
        say("m3", "m1", "assistant", "A wren.", annotation={"rating": 1}),
        say("m4", "m3", "user", "Another?"),
        say("m5", "m4", "assistant", "A crow.", annotation={"rating": 1}),
        say("m6", "m4", "assistant", "A cod.", annotation={"rating": -1}),
    ]
    shown = [node for node in nodes if node["id"] in ("m1", "m3", "m4", "m5")]
    chat = {"history": {"currentId": "m5", "messages": {node["id"]: node for node in nodes}}, "messages": shown}
    (tmp_path / "f.json").write_text(json.dumps([{"id": "c", "user_id": "u", "chat": chat}]))
    found = {episode.id: episode for episode in stream(tmp_path / "f.json")}
    assert {name: (each.response, each.score) for name, each in found.items()} == {
        "c/m2": ("A carp.", 0),
        "c/m3": ("A wren.", 1),
        "c/m5": ("A crow.", 1),
        "c/m6": ("A cod.", 0),
    }
    assert found["c/m2"].critique == "A fish." and found["c/m2"].task.key == found["c/m3"].task.key
    asked = [message["content"] for message in found["c/m5"].task.messages]
    assert asked == ["Name a bird.", "A wren.", "Another?"] and found["c/m5"].task.key == found["c/m6"].task.key


def test_an_unbranched_tree_is_one_dialogue(tmp_path):
    nodes = {
        "a": {"id": "a", "parentId": None, "role": "user", "content": "p"},
        "b": {"id": "b", "parentId": "a", "role": "assistant", "content": "r"},
        "c": {"id": "c", "parentId": "b", "role": "user", "content": "q"},
        "d": {"id": "d", "parentId": "c", "role": "assistant", "content": "s", "annotation": {"rating": 1}},
    }
    (tmp_path / "f.json").write_text(json.dumps({"id": "x", "chat": {"history": {"messages": nodes}}}))
    (episode,) = stream(tmp_path / "f.json")
    assert episode.id == "x" and [turn.text for turn in episode.turns] == ["r", "q", "s"]
    assert episode.feedback[0].turn == 1


def test_calls_that_only_the_history_notes_are_part_of_the_answers(tmp_path):
    prompt = [{"role": "user", "content": "Fix the crash."}]

    def call(name, function, arguments):
        return {"id": name, "type": "function", "function": {"name": function, "arguments": arguments}}

    steps = [
        {"action": "ls src", "response": "I look.", "thought": "I look.", "observation": "app.py", "query": prompt},
        {"action": "cat app.py", "response": "I read.", "thought": "I read.", "observation": "x = 1", "query": []},
        {"action": "submit", "response": "Done.", "thought": "Done.", "observation": "", "query": []},
    ]
    history = [
        *prompt,
        {"role": "assistant", "action": "ls src", "tool_calls": [call("a", "bash", '{"command": "ls src"}')]},
        {"role": "tool", "content": "app.py"},
        {"role": "assistant", "action": "submit", "tool_calls": [call("b", "submit", "{}")]},
    ]
    (tmp_path / "f.traj").write_text(json.dumps({"trajectory": steps, "history": history}))
    (episode,) = read(tmp_path / "f.traj")
    looked, read_file, done = episode.policy_turns
    assert looked.calls == ({"id": "a", "name": "bash", "arguments": '{"command": "ls src"}'},)
    assert (looked.text, read_file.text) == ("I look.", "I read.\n\n```\ncat app.py\n```")
    assert done.calls[0]["name"] == "submit"
    assert [(turn.role, turn.call_id) for turn in episode.turns if turn.role != "assistant"] == [
        ("tool", "a"),
        ("user", None),
    ]


def test_rollouts_keep_reward_metrics_and_reference(tmp_path):
    row = {"example_id": 0, "prompt": "3 + 4?", "completion": [{"role": "assistant", "content": "8"}], "answer": "7"}
    row |= {"reward": 0.5, "metrics": {"correct": 0.0, "turns": 1.0}, "is_truncated": True, "task": "sums"}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    (episode,) = read(tmp_path / "f.jsonl")
    assert (episode.score, episode.task.reference, episode.is_cut_off) == (0.5, "7", True)
    assert episode.scores["correct"] == 0 and episode.task.meta == {"example_id": 0, "task": "sums"}


def test_prompts_alone_are_read_and_an_answer_among_them_is_refused(tmp_path):
    rows = [{"prompt": "2 + 3?", "reference": "5"}] * 2 + [{"prompt": "4?", "response": "x"}]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    assert detect(tmp_path / "f.jsonl") == "prompts"
    assert [(each.turns, each.task.reference) for each in read(tmp_path / "f.jsonl")] == [((), "5")] * 2
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(rows[0]) + "\n" for _ in range(100)) + json.dumps(rows[2]))
    with pytest.raises(DataError, match="101: response: got 'x', expected prompts alone"):
        read(tmp_path / "f.jsonl")


@pytest.mark.parametrize("place", ["files", "sources"])
def test_what_the_policy_read_beside_a_chats_words_is_refused(tmp_path, place):
    record = json.loads((FILES / "open-webui.json").read_text())[0]
    messages = record["chat"].get("messages") or list(record["chat"]["history"]["messages"].values())
    messages[0][place] = []
    (tmp_path / "f.json").write_text(json.dumps([record]))
    assert read(tmp_path / "f.json")
    messages[0][place] = [{"type": "file", "name": "rivers.pdf"}]
    (tmp_path / "f.json").write_text(json.dumps([record]))
    with pytest.raises(DataError, match=rf"{place}: got .*expected all that the policy read.*or delete {place}"):
        read(tmp_path / "f.json")


@pytest.mark.parametrize("kind", ["pairwise", "ranker"])
def test_a_comparison_in_label_studio_is_refused_by_name(tmp_path, kind):
    result = {"from_name": "which", "to_name": "a,b", "type": kind, "value": {"selected": "left"}}
    task = {"id": 1, "data": {"prompt": "p", "a": "x", "b": "y"}, "annotations": [{"result": [result]}]}
    (tmp_path / "f.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match=rf"result\[0\].type: got '{kind}'.*prompt, chosen, rejected"):
        read(tmp_path / "f.json")


def test_dialogues_of_hh_rlhf_are_read(tmp_path):
    start = "\n\nHuman: A river?\n\nAssistant: Which one?\n\nHuman: In Peru.\n\nAssistant: "
    pair = {"chosen": start + "The Ucayali.\n\nIt is long. ", "rejected": start + "The Nile."}
    (tmp_path / "f.jsonl").write_text(json.dumps(pair) + "\n")
    better, worse = read(tmp_path / "f.jsonl")
    assert [message["content"] for message in better.task.messages] == ["A river?", "Which one?", "In Peru."]
    assert [message["role"] for message in worse.task.messages] == ["user", "assistant", "user"]
    assert (better.turns[0].text, worse.turns[0].text) == ("The Ucayali.\n\nIt is long. ", "The Nile.")
    (tmp_path / "f.jsonl").write_text(json.dumps({"chosen": "Human: hm", "rejected": "Human: hm no"}) + "\n")
    with pytest.raises(DataError, match="texts do not show where it ends"):
        read(tmp_path / "f.jsonl")


def test_a_trajectory_of_tau_bench_is_found_as_messages(tmp_path):
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Done."}]
    record = {"task_id": 0, "reward": 1.0, "info": {"task": {"instruction": "You are Yusuf"}}, "traj": said, "trial": 0}
    (tmp_path / "f.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match="The nearest fit: --map score=reward messages=traj"):
        read(tmp_path / "f.jsonl")
    (episode,) = read(tmp_path / "f.jsonl", columns={"score": "reward", "messages": "traj"})
    assert (episode.score, episode.turns[0].text) == (1, "Done.")
