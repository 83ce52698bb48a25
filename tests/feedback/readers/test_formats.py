"""Every foreign format, from a small file in its documented layout: told by itself, nothing lost, meaning kept."""

import json
import math
from pathlib import Path

import pytest

from feedback.faults import DataError
from feedback.readers import FORMATS, detect, read, read_with_report, stream
from feedback.readers.catalogue import READERS
from feedback.types import Episode
from feedback.writers import write_episodes

pytestmark = pytest.mark.filterwarnings("ignore:.*scored several times")
FILES = Path(__file__).parent / "files"
NAMED = {path.name.partition(".")[0]: path for path in sorted(FILES.iterdir())}
FORMAT_OF = {"openclaw_record": "openclaw", "openai-chat": "episodes"}
SCALED = {"argilla", "label-studio", "label-studio-min", "distilabel"}
SAMPLES = [name for name in NAMED if name != "openclaw_record_prm"]


def episodes_of(name: str) -> dict[str, Episode]:
    found = read(NAMED[name], scale=(1, 5) if name in SCALED else None, aggregate="each")
    return {episode.id: episode for episode in found}


def said(episode: Episode) -> list[tuple]:
    """Name, score (None where absent), text and annotator of each item of feedback."""
    return [
        (item.name, None if math.isnan(item.score) else round(item.score, 3), item.text, item.annotator)
        for item in episode.feedback
    ]


def test_every_format_has_a_sample():
    assert {FORMAT_OF.get(name, name) for name in SAMPLES} | {"shepherd"} == set(FORMATS) - {"auto"}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_told_and_loads_whole_and_comes_back(name, tmp_path):
    path, format = NAMED[name], FORMAT_OF.get(name, name)
    scale = (1, 5) if name in SCALED else None
    assert detect(path) == format
    found = stream(path, format, scale)
    episodes = list(found)
    assert all(isinstance(item, Episode) for item in episodes), episodes
    assert (found.num_loaded, found.num_rejected) == (found.num_records, 0) and found.num_records > 0
    for ending in ("jsonl", "json.gz", "parquet"):
        write_episodes(tmp_path / f"f.{ending}", episodes)
        assert list(stream(tmp_path / f"f.{ending}")) == episodes


def test_a_column_decides_between_formats_that_share_others():
    for reader in READERS:
        for other in SAMPLES:
            first = json.loads(NAMED[other].read_text().splitlines()[0]) if NAMED[other].suffix == ".jsonl" else {}
            if reader.name not in ("rows", "episodes", "trl-preference") and reader.is_match(first):
                assert reader.name == FORMAT_OF.get(other, other)


def test_helpsteer():
    one, two = read(NAMED["helpsteer2"])
    assert (one.feedback[0].score, one.feedback[0].scale, one.feedback[3].score) == (1, (0, 4), 0.25)
    assert [message["role"] for message in two.task.messages] == ["user", "assistant", "user"]
    assert said(two)[0] == ("helpfulness", 0.125, None, None)  # the mean of 0 and 1 on 0 to 4
    assert episodes_of("helpsteer2")["line-2"].feedback[1].annotator == "1"
    pair = episodes_of("helpsteer3-preference")
    first, second = pair["line-1/1"], pair["line-1/2"]
    assert [item.strength for item in second.preferences] == [1, pytest.approx(4 / 6)]
    # the second wins (1 + 4/6) / 2 of the two comparisons
    assert [said(each)[-1][:2] for each in (first, second)] == [("win_rate", 0.167), ("win_rate", 0.833)]
    assert first.critique == "It insists on a fish.\nWrong."
    edit = episodes_of("helpsteer3-edit")["line-1"]
    assert (edit.response, edit.revision, edit.score) == ("A carp.", "A duck.", 0)
    good = episodes_of("helpsteer3-quality")["line-1/chosen"]
    assert good.preferences[0].other_id == "line-1/rejected" and good.task.meta["feedback"] == ["A carp is a fish."]
    verdicts = said(episodes_of("helpsteer3-feedback")["line-1/2"])
    assert [(name, score) for name, score, _, _ in verdicts] == [("helpfulness", 0), ("helpfulness", None)]
    strength = episodes_of("helpsteer2-preference")["line-1/2"].preferences
    assert [item.strength for item in strength] == [0, 0.5]


def test_ultrafeedback():
    bad, good = episodes_of("ultrafeedback").values()
    # (2 - 1) / 9 on 1 to 10, (1 - 1) / 4 on 1 to 5; an aspect rated N/A without a word says nothing
    assert said(bad) == [
        ("overall", 0.111, "A carp is a fish.", None),
        ("instruction_following", 1, "It does.", None),
        ("truthfulness", 0, "A fish.\nPlainly false.", None),
    ]
    assert [item.scale for item in bad.feedback] == [(1, 10), (1, 5), (1, 5)]
    assert good.task.meta["model"] == "m2" and good.task.key == bad.task.key
    pair = episodes_of("ultrafeedback-binarized")
    assert "win_rate" not in {item.name for item in pair["line-1/chosen"].feedback}  # both have scores of their own


def test_models_as_judges():
    first, second = episodes_of("prometheus").values()
    assert (first.score, second.score, second.critique, first.task.reference) == (0, 1, "It is a bird.", "A duck.")
    scores = [episode.score for episode in episodes_of("distilabel").values()]
    assert scores[:2] == [1, 0] and math.isnan(scores[2])


def test_annotation_tools():
    record = episodes_of("argilla")["r1"]
    assert [item for item in said(record) if item[0] == "quality"] == [
        ("quality", 0, None, "kim"),
        ("quality", 0.25, None, "lee"),
        ("quality", 0.25, None, "judge"),
    ]
    assert record.feedback[-1].source == "llm" and record.revision == "A duck."  # and the discarded 5 is not there
    task = episodes_of("label-studio")["7"]
    assert [item.annotator for item in task.feedback] == ["kim@example.org"] * 2 + ["4"] * 2
    assert task.revision == "A duck." and task.task.meta["results"][0]["from_name"] == "kind"
    named = read(NAMED["argilla"], "argilla:critique=corrected,revision=why", (1, 5))
    assert (named[0].revision, named[0].feedback[-2].text) == ("A carp is a fish.", "A duck.")
    for words in ("argilla:speech=why", "argilla:why", "rows:a=b"):
        with pytest.raises(DataError, match="format"):
            read(NAMED["argilla"], words, (1, 5))


def test_trl():
    pairs = list(stream(NAMED["trl-preference"]))
    assert [episode.response for episode in pairs] == ["A duck.", "A carp."] * 2 + ["A goose.", "A cod."]
    assert {episode.task.messages[0]["content"] for episode in pairs} == {"Name a bird."}
    (steps,) = read(NAMED["trl-stepwise"])
    assert [(item.turn, item.score) for item in steps.feedback] == [(0, 1), (1, 0)] and len(steps.turns) == 2
    (privileged,) = read(NAMED["trl-privileged"])
    assert privileged.turns == () and privileged.task.hints == ("It has feathers.",)
    assert [episode.score for episode in read(NAMED["trl-completion"])][1:] == [0, 1]


def test_openassistant_trees_and_their_messages_agree():
    trees, messages = episodes_of("oasst-trees"), episodes_of("oasst-messages")
    assert list(trees) == list(messages) == ["a1", "a2", "a3"]  # the deleted a4 is gone
    for name in trees:
        assert (trees[name].task.messages, trees[name].turns) == (messages[name].task.messages, messages[name].turns)
    assert (trees["a1"].score, trees["a2"].score) == (1, 0) and math.isnan(trees["a3"].score)
    assert [message["content"] for message in trees["a3"].task.messages] == ["Name a bird.", "A duck.", "Another?"]


def test_logs_of_agents():
    one, two = episodes_of("openclaw_record").values()
    assert said(one) == [
        ("next_state", None, "That is a fish.", None),
        ("outcome", 0, "Not a bird.", None),
        ("hint", None, "Name an animal with feathers.", None),
    ]
    assert [item.source for item in (one.feedback[0], two.feedback[0])] == ["human", "environment"]
    assert two.turns[0].calls == ({"id": "c1", "name": "look_up", "arguments": '{"word": "carp"}'},)
    (run,) = read(NAMED["swe-agent"])
    assert [(turn.role, turn.text[:7]) for turn in run.turns] == [
        ("assistant", "Let us "),
        ("user", "a.py"),
        ("assistant", "Submit."),
        ("user", "done"),
    ]
    assert run.task.messages[1] == {"role": "user", "content": "Fix a.py."}
    (chat,) = read(NAMED["open-webui"])
    assert [(item.turn, item.score, item.text) for item in chat.feedback] == [
        (0, 0, "Not factually correct: A fish."),
        (1, 1, "Accurate information"),
    ]


def test_canonical_episodes_keep_turns_annotators_and_scales():
    dialogue = episodes_of("episodes")["e1"]
    assert [turn.role for turn in dialogue.turns] == ["assistant", "user", "assistant", "tool", "assistant"]
    assert dialogue.turns[3].call_id == dialogue.turns[2].calls[0]["id"] == "c1"
    assert [(item.turn, item.score, item.scale) for item in dialogue.feedback] == [
        (0, 0, (1, 5)),
        (0, 0.25, (1, 5)),
        (None, 0.5, None),
    ]
    assert dialogue.preferences[0].strength == pytest.approx(5 / 6)
    (openai,) = read(NAMED["openai-chat"])
    assert [turn.role for turn in openai.turns] == ["assistant", "tool", "assistant"]  # weight 0 belongs to the prompt


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"feedback": [{"turn": 0, "score": 1}]}, "feedback[0].turn"),
        ({"feedback": [{"turn": 1, "score": 7, "min": 1, "max": 5}]}, "feedback[0].score"),
        ({"feedback": [{"turn": 1, "score": 7, "min": 5}]}, "feedback[0].max"),
        ({"feedback": [{"points": 1}]}, "feedback[0].points"),
        ({"start": 0}, "start"),
        ({"messages": [{"role": "user", "content": "p"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, {"role": "assistant", "content": "r"}]},
            "messages[0].content[0].type",
        ),
        ({"preferences": [{"strength": 1}]}, "preferences[0].over"),
    ],
)
def test_what_is_wrong_in_an_episode_is_named(tmp_path, change, field):
    sound = {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]}
    (tmp_path / "f.jsonl").write_text(json.dumps(sound) + "\n" + json.dumps(sound | change) + "\n")
    episodes, (fault,) = read_with_report(tmp_path / "f.jsonl", lenient=True)
    assert len(episodes) == 1 and (fault.line, fault.field) == (2, field)


def test_scales_of_a_format_are_not_declared_again():
    with pytest.raises(DataError, match="carry their own"):
        read(NAMED["ultrafeedback"], scale=(1, 5))
    with pytest.raises(DataError, match="run from 1 to 5.*Declare"):
        read(NAMED["distilabel"])


def test_a_pair_of_two_equal_answers_is_refused(tmp_path):
    rows = [{"prompt": "p", "chosen": "a", "rejected": "a"}, {"prompt": "p", "chosen": "a", "rejected": "b"}]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fault, better, worse = stream(tmp_path / "f.jsonl")
    assert (fault.line, fault.field, fault.expected) == (1, "rejected", "another answer than the chosen one")
    assert (better.response, worse.response) == ("a", "b")


@pytest.mark.parametrize(("place", "keys"), [("conversations", ("from", "value")), ("messages", ("role", "content"))])
def test_a_dialogue_beside_both_answers_is_their_prompt(tmp_path, place, keys):
    said = [dict(zip(keys, words, strict=True)) for words in (("user", "p"), ("assistant", "a"), ("assistant", "b"))]
    row = {place: said[:1], "chosen": said[1], "rejected": said[2]}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    better, worse = stream(tmp_path / "f.jsonl")
    assert better.task.messages == ({"role": "user", "content": "p"},) and better.task == worse.task
    assert (better.response, worse.response) == ("a", "b")
