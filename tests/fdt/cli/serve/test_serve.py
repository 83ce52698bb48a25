"""The proxy without a policy: sessions, what is feedback on what, what is recorded, and who may ask."""

import json
import math
import threading
from dataclasses import dataclass, field

import pytest
from starlette.testclient import TestClient

from fdt.cli.serve.answers import Answer, Answerer, Refused, Upstream
from fdt.cli.serve.app import build_app
from fdt.cli.serve.main import main
from fdt.cli.serve.recorder import Recorder
from fdt.cli.web.guard import Guard
from fdt.errors import UserError
from feedback.graders import Grader
from feedback.readers import stream
from feedback.types import Feedback
from tests.helpers.servers import Server, completion, fault

TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
CALLS = (
    {"id": "a", "name": "find", "arguments": '{"q": "x"}'},
    {"id": "b", "name": "find", "arguments": '{"q": "y"}'},
)


class Scripted(Answerer):
    """Numbered answers; where tools are offered and a user asks, two calls."""

    name = "scripted"

    def __init__(self):
        self.count = 0

    def answer(self, messages, settings, tell=None):
        self.count += 1
        if messages[-1]["content"] == "refuse":
            raise Refused("no")
        if settings.get("tools") and messages[-1]["role"] == "user":
            return Answer("", CALLS, "tool_calls")
        return Answer(f"Answer {self.count}. " + "x" * 50, ids=(1, 2), log_probs=(-0.5, -0.25))


@dataclass
class Talk:
    client: TestClient
    messages: list = field(default_factory=list)

    def say(self, *texts, headers=None, **more):
        self.messages += [t if isinstance(t, dict) else {"role": "user", "content": t} for t in texts]
        return self.ask(headers, **more)

    def ask(self, headers=None, **more):
        body = {"model": "any", "messages": self.messages, **more}
        reply = self.client.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        self.messages = [*self.messages, reply.json()["choices"][0]["message"]]
        return self.messages[-1]


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "live.jsonl")


@pytest.fixture
def client(recorder):
    return TestClient(build_app(Scripted(), recorder))


def read(recorder):
    return {e.id: e for e in stream(recorder.log.path)}


def texts(recorder):
    """For each turn, in order, what came back for it."""
    return [[item.text for item in episode.feedback] for episode in read(recorder).values()]


def test_the_next_message_is_feedback_on_the_turn_before(client, recorder):
    talk = Talk(client)
    for text in ("Hi.", "No.", "Thanks."):
        talk.say(text, user="kim")
    first, second, third = read(recorder).values()
    assert first.feedback == (Feedback("human", "kim", "next_state", text="No.", turn=0),)
    assert [item.text for item in second.feedback] == ["Thanks."]
    assert third.feedback == ()
    assert (first.turns[0].ids, first.turns[0].log_probs, first.turns[0].sampled) == ((1, 2), (-0.5, -0.25), True)
    assert [m["content"] for m in second.task.messages][::2] == ["Hi.", "No."]


def test_a_retry_says_nothing_and_the_answer_that_was_kept_is_judged(client, recorder):
    talk = Talk(client)
    talk.say("Hi.")
    first = talk.messages.pop()
    talk.ask()
    talk.messages[-1] = first  # the client keeps the first answer
    talk.say("Good.")
    assert texts(recorder) == [["Good."], [], []]


def test_all_replies_of_parallel_calls_are_feedback(client, recorder):
    talk = Talk(client)
    message = talk.say("Look it up.", tools=TOOLS)
    assert [call["id"] for call in message["tool_calls"]] == ["a", "b"]
    replies = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"found {call['id']}"} for call in message["tool_calls"]
    ]
    talk.messages[-1] = message | {"content": None}  # as OpenAI's clients send it back
    talk.say(*replies, tools=TOOLS)
    talk.say("Fine.")
    assert texts(recorder) == [["found a\n\nfound b"], ["Fine."], []]
    first, second, _ = read(recorder).values()
    assert (first.feedback[0].source, second.feedback[0].source) == ("environment", "human")
    assert first.task.meta["tools"] == TOOLS
    assert [call["name"] for call in first.turns[0].calls] == ["find", "find"]


def test_side_turns_and_other_sessions_judge_nothing(client, recorder):
    talk = Talk(client)
    talk.say("Hi.")
    aside = Talk(client, [*talk.messages])
    aside.say("Summarise.", headers={"x-turn-type": "side"})
    other = Talk(client, [*talk.messages])
    other.say("Elsewhere.", headers={"x-session-id": "other"})
    assert texts(recorder) == [[], [], []]
    talk.say("Bad.")
    assert texts(recorder)[0] == ["Bad."]


def test_a_rewritten_history_judges_nothing(client, recorder):
    talk = Talk(client)
    talk.say("Hi.")
    talk.messages[-1] = {"role": "assistant", "content": "Something else."}
    talk.say("Bad.")
    assert texts(recorder) == [[], []]


def test_a_session_that_ended_is_over(client, recorder):
    talk = Talk(client)
    talk.say("Hi.", headers={"x-session-id": "s"})
    talk.say("Bye.", headers={"x-session-id": "s", "x-session-done": "true"})
    talk.say("Hm?", headers={"x-session-id": "s"})
    assert texts(recorder) == [["Bye."], [], []]
    again = Recorder(recorder.log.path)
    talk.client = TestClient(build_app(Scripted(), again))
    talk.say("Yes?", headers={"x-session-id": "s"})
    assert texts(recorder) == [["Bye."], [], ["Yes?"], []]


def test_a_proxy_that_was_killed_goes_on(client, recorder):
    talk = Talk(client)
    talk.say("Hi.")
    talk.say("No.")
    with recorder.log.path.open("ab") as file:
        file.write(b'{"event": "episode", "id"')  # it was killed while it wrote, before its reply
    again = Recorder(recorder.log.path)
    talk.client = TestClient(build_app(Scripted(), again))
    talk.say("Better.")
    assert texts(recorder) == [["No."], ["Better."], []]
    assert list(read(recorder)) == [f"{next(iter(read(recorder))).partition('/')[0]}/{n}" for n in (1, 2, 3)]


def stream_answer(client, messages, **more):
    body = {"model": "m", "messages": messages, "stream": True, **more}
    reply = client.post("/v1/chat/completions", json=body)
    return [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line.startswith("data: ")]


def test_streamed_pieces_are_the_answer(client, recorder):
    lines = stream_answer(client, [{"role": "user", "content": "Hi."}], stream_options={"include_usage": True})
    *pieces, usage = map(json.loads, lines[:-1])
    assert lines[-1] == "[DONE]"
    text = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
    assert text == next(iter(read(recorder).values())).response
    assert len(pieces) > 3
    assert pieces[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["total_tokens"] == 0
    (fault_line,) = stream_answer(client, [{"role": "user", "content": "refuse"}])
    assert json.loads(fault_line)["error"]["message"] == "no"
    assert len(read(recorder)) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hi."}]}, "user or tool"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text"),
        ({"messages": [{"role": "user", "content": "Hi."}], "turn_type": "both"}, "main or side"),
        ({"messages": [{"role": "user", "content": "Hi."}], "session_id": "\n"}, "1 to 200"),
        ({"messages": [{"role": "user", "content": "refuse"}]}, "no"),
    ],
)
def test_what_cannot_be_answered_is_said_and_not_recorded(client, recorder, body, reason):
    reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 400
    assert reason in reply.json()["error"]["message"]
    assert recorder.log.path.stat().st_size == 0


def test_what_cannot_be_recorded_is_not_answered(client, recorder, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", fail)
    reply = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hi."}]})
    assert reply.status_code == 507
    assert "No space left" in reply.json()["error"]["message"]


class Votes(Grader):
    """A judge that scores each answered turn, and fails on request."""

    def __call__(self, episodes):
        (episode,) = episodes
        following = [turn.text for turn in episode.turns[1:]]
        return [episode.add_feedback(Feedback("llm", "votes", "next_state", 0.0, f"not {following[0]}", 0))]


def test_a_judge_votes_after_the_reply(tmp_path):
    recorder = Recorder(tmp_path / "live.jsonl", Votes())
    talk = Talk(TestClient(build_app(Scripted(), recorder)))
    talk.say("Hi.")
    talk.say("No.")
    recorder.close()
    first, second = read(recorder).values()
    assert [(item.annotator, item.text, item.turn) for item in first.feedback] == [
        (None, "No.", 0),
        ("votes", "not No.", 0),
    ]
    assert math.isnan(first.feedback[0].score)
    assert first.score == 0.0
    assert second.feedback == ()


def test_a_judge_that_a_kill_cut_off_leaves_the_next_message(tmp_path):
    class Never(Grader):
        def __call__(self, episodes):
            raise SystemExit

    recorder = Recorder(tmp_path / "live.jsonl", Never())
    talk = Talk(TestClient(build_app(Scripted(), recorder)))
    talk.say("Hi.")
    talk.say("No.")
    recorder.close()
    assert texts(recorder) == [[], []]
    Recorder(tmp_path / "live.jsonl").close()
    assert texts(recorder) == [["No."], []]


def test_limits(recorder):
    started = threading.Event()
    release = threading.Event()

    class Slow(Scripted):
        def answer(self, messages, settings, tell=None):
            started.set()
            assert release.wait(30)
            return super().answer(messages, settings)

    guard = Guard(
        build_app(Slow(), recorder),
        "a-token-of-32-characters",
        max_body=500,
        max_concurrent=1,
        open_paths=("/healthz",),
    )
    client = TestClient(guard)
    body = {"messages": [{"role": "user", "content": "Hi."}]}
    assert client.post("/v1/chat/completions", json=body).status_code == 401
    assert client.get("/v1/models").status_code == 401
    assert client.get("/healthz").json()["status"] == "ok"
    client.headers["authorization"] = "Bearer a-token-of-32-characters"
    assert client.get("/v1/models").json()["data"][0]["id"] == "scripted"
    assert client.post("/v1/chat/completions", json=body | {"user": "x" * 500}).status_code == 413
    with client:
        first = threading.Thread(target=client.post, args=("/v1/chat/completions",), kwargs={"json": body})
        first.start()
        assert started.wait(30)
        assert client.post("/v1/chat/completions", json=body).status_code == 429
        release.set()
        first.join()
    assert len(read(recorder)) == 1


def test_a_server_behind_is_asked_what_it_understands(recorder):
    seen = []

    def behave(call):
        seen.append(call)
        return completion("Hello.") if len(seen) == 1 else fault(400, "too long")

    with Server(behave) as server:
        client = TestClient(build_app(Upstream(server.url, "m", None, 20), recorder))
        reply = Talk(client).say("Hi.", temperature=0.5, session_id="s", stream=False)
        assert reply["content"] == "Hello."
        body = {"messages": [{"role": "user", "content": "Hi."}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 400
    (episode,) = read(recorder).values()
    assert (episode.id, episode.response, episode.turns[0].ids) == ("s/1", "Hello.", None)
    assert "session_id" not in seen[0].body
    assert seen[0].body["temperature"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--upstream", "http://127.0.0.1:1/v1"], "--model"),
        (["--upstream", "http://127.0.0.1:1/v1", "--model", "m", "--run", "r"], "--run"),
    ],
)
def test_arguments_that_cannot_work_are_refused(tmp_path, arguments, reason):
    with pytest.raises(UserError, match=reason):
        main([str(tmp_path / "live.jsonl"), "--port", "0", *arguments])
