"""The page's parts without a browser: what is opened, saved, undone, and who may ask."""

import json
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from fdt.cli.annotate.app import build_app
from fdt.cli.annotate.main import main
from fdt.cli.annotate.preview import Preview
from fdt.cli.annotate.sources import open_log
from fdt.cli.annotate.store import AnnotationStore, Mark
from fdt.cli.web.guard import Guard
from fdt.cli.web.server import find_token
from fdt.errors import UserError
from feedback.logs import LogFile
from feedback.logs.episodes import build_episode_event
from feedback.readers import read, stream
from tests.helpers.runs import config, quick

TALK = {
    "id": "talk",
    "messages": [
        {"role": "user", "content": "Name a bird."},
        {"role": "assistant", "content": "A carp."},
        {"role": "user", "content": "A bird!"},
        {"role": "assistant", "content": "A duck."},
    ],
    "feedback": [{"turn": 1, "score": 1, "min": 1, "max": 5, "critique": "A fish.", "annotator": "lee"}],
}


def ask(file, **changes):
    return SimpleNamespace(file=str(file), format="auto", scale=None, map=None, out=None, lenient=False, **changes)


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def store(tmp_path):
    row = {"id": "row", "prompt": "What is 6 * 7?", "response": "41", "score": 2}
    rows = write(tmp_path / "rows.jsonl", row)
    talk = write(tmp_path / "talks.jsonl", TALK)
    args = ask(talk, points=(1, 5))
    path = open_log(args)
    args = ask(rows)
    args.scale = [1, 5]
    args.out = str(path)
    assert open_log(args) == path, "answers that the log lacks are added"
    return AnnotationStore(path, (1, 5))


def test_the_log_holds_the_answers_with_what_was_said_before(store):
    assert store.path.name == "talks.judged.jsonl"
    talk, row = stream(store.path)
    assert (talk.feedback[0].text, talk.feedback[0].turn, row.score) == ("A fish.", 0, 0.25)


def test_judgements_are_changed_and_undone_in_turn(store):
    def say(turn, *mark):
        return store.save("kim", ("talk", turn), Mark(*mark))

    assert say(1, 1)
    assert not say(1, 1), "the same again is no line"
    assert say(1, 1, "A fish.", "A duck.")
    assert say(None, 3)
    assert say(1)  # nothing is said any more
    assert list(store.read_marks("kim")) == [("talk", None)]
    assert store.undo("kim") == ("talk", 1)
    assert store.read_marks("kim")["talk", 1].revision == "A duck."
    assert store.undo("kim") == ("talk", None)
    assert list(store.read_marks("kim")) == [("talk", 1)]
    assert store.undo("kim") == ("talk", 1)
    assert store.read_marks("kim")["talk", 1].critique is None
    assert store.undo("kim") == ("talk", 1)
    assert store.read_marks("kim") == {}
    assert store.undo("kim") is None
    # Another process opens the file and sees the same.
    again = AnnotationStore(store.path, (1, 5))
    assert again.read_marks("kim") == {}
    assert again.undo("kim") is None


def test_what_another_process_appends_is_seen(store):
    other = AnnotationStore(store.path, (1, 5))
    other.save("lee", ("row", None), Mark(5))
    LogFile(store.path).append(
        build_episode_event(read(write(store.path.with_name("new.jsonl"), TALK | {"id": "n"}))[0])
    )
    store.refresh()
    assert store.read_marks("lee")["row", None].score == 5
    assert [episode.id for episode in store.episodes] == ["talk", "row", "n"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[1]", "no JSON object"),
        (b'{"turn": 2}', "no answer"),
        (b'{"turn": null, "score": 6}', "one of 1 to 5"),
        (b'{"turn": null, "score": true}', "one of 1 to 5"),
        (b'{"turn": null, "critique": 3}', "no text"),
    ],
)
def test_what_is_no_judgement_is_refused(store, body, reason):
    client = TestClient(build_app(store, Preview("none")), base_url="http://127.0.0.1")
    client.cookies.set("fdt_annotator", "kim")
    size = store.path.stat().st_size
    reply = client.post("/answers/1", content=body)
    assert reply.status_code == 400
    assert reason in reply.json()["problem"]
    assert store.path.stat().st_size == size


def test_text_of_an_answer_is_no_markup(tmp_path):
    attack = "<script>document.title = 'taken'</script>\u202e"
    path = open_log(ask(write(tmp_path / "rows.jsonl", {"prompt": attack, "response": attack, "critique": attack})))
    client = TestClient(build_app(AnnotationStore(path, (1, 5)), Preview("none")))
    client.cookies.set("fdt_annotator", "kim")
    page = client.get("/answers/1").text
    assert page.count("<script") == 1
    assert "\u202e" not in page.partition("data-state")[2].partition(">")[2]


def test_only_this_machine_and_this_page_may_ask(store):
    client = TestClient(Guard(build_app(store, Preview("none")), None, max_body=100), base_url="http://127.0.0.1:1")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403
    assert client.post("/name", data={"name": "kim"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/name", content="n" * 101).status_code == 413
    assert client.post("/name", content=iter([b"n" * 60, b"n" * 60])).status_code == 413


def test_others_bring_a_token(store, monkeypatch):
    monkeypatch.delenv("FDT_TOKEN", raising=False)
    assert find_token("127.0.0.1") is None
    assert find_token("::1") is None
    token = find_token("0.0.0.0")
    assert len(token) >= 32
    guard = Guard(build_app(store, Preview("none")), token)
    client = TestClient(guard, base_url="http://any.example", follow_redirects=False)
    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/", headers={"authorization": f"Bearer {token}"}).status_code == 200
    reply = client.get(f"/?token={token}")
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert client.get("/").status_code == 200, "the browser keeps it in a cookie"
    monkeypatch.setenv("FDT_TOKEN", "short")
    with pytest.raises(UserError, match="at least 16"):
        find_token("127.0.0.1")


def test_a_run_gives_its_held_out_answers(tmp_path):
    run = tmp_path / "run"
    (run / "eval").mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    last = {"id": "t1", "prompt": "Ask.", "response": "Said.", "score": 1.0, "reference": "So."}
    turns = [
        {"role": "assistant", "text": "One."},
        {"role": "user", "text": "And?"},
        {"role": "assistant", "text": "2."},
    ]
    write(run / "eval" / "last.jsonl", last, last | {"id": "t2", "conversation": turns})
    path = open_log(ask(run))
    one, two = stream(path)
    assert (path.name, one.response, one.feedback, one.task.reference) == ("answers.judged.jsonl", "Said.", (), "So.")
    assert [turn.text for turn in two.policy_turns] == ["One.", "2."]
    step = {"id": "r", "step": 3, "task": "t1", "prompt": "Ask.", "response": "Said."}
    write(run / "transcripts.jsonl", step, step, step | {"step": 4})
    names = [episode.id for episode in stream(open_log(ask(run / "transcripts.jsonl")))]
    assert names == ["step3/r", "step3/r#2", "step4/r"]


@pytest.mark.slow
def test_answers_of_a_run_stand_under_the_whole_conversation_that_was_answered(tmp_path):
    prompt = [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "And then?"},
    ]
    rows = ({"task": f"t{n}", "prompt": prompt[n % 2 :], "reference": "3"} for n in range(4))
    write(tmp_path / "rows.jsonl", *rows)
    held = write(tmp_path / "held.jsonl", {"task": "h", "prompt": prompt, "reference": "3"})
    path = config(tmp_path, trainer__max_steps=1, data__heldout=str(held), trainer__callbacks=[])
    for verb in ("fit", "predict"):
        done = quick(verb, "-c", path)
        assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "run"
    (held_out,) = stream(open_log(ask(run)))
    for file in ("predictions.jsonl", "eval/base.jsonl"):
        (answered,) = stream(open_log(ask(run / file)))
        assert list(answered.task.messages) == list(held_out.task.messages) == prompt, file
        assert answered.feedback == () and answered.response == json.loads((run / file).read_text())["response"]
    trained = list(stream(open_log(ask(run / "transcripts.jsonl"))))
    assert len(trained) == 4 and all(list(e.task.messages) == prompt[int(e.task.key[1:]) % 2 :] for e in trained)


def test_nothing_to_judge_is_said(tmp_path, capsys):
    with pytest.raises(UserError, match="0 to 9"):
        main([str(tmp_path), "--points", "5", "1"])
    prompts = write(tmp_path / "prompts.jsonl", {"prompt": "Ask."})
    with pytest.raises(UserError, match="no answer to judge"):
        open_log(ask(prompts))
    assert not list(tmp_path.glob("*judged*"))
    taken = write(tmp_path / "taken.judged.jsonl", {"prompt": "Ask.", "response": "Said."})
    with pytest.raises(UserError, match="no log of judgements"):
        open_log(ask(write(tmp_path / "taken.jsonl", TALK)))
    assert taken.read_text()
