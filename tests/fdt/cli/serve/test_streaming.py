"""A policy in this process streams as it writes, and ends a reply when all of it is on record."""

import json
import threading

import openai
import pytest
import uvicorn
from starlette.testclient import TestClient

from fdt.cli.serve.app import build_app
from fdt.cli.serve.local import LocalPolicy, TokenTeller
from fdt.cli.serve.recorder import Recorder
from fdt.cli.web.server import bind
from tests.helpers.tiny import tokenizer

ASKED = ({"role": "user", "content": "Hi."},)


class Held(LocalPolicy):
    """Writes on after its first piece when it may."""

    def __init__(self, model: str):
        super().__init__(model, None, 40)
        self.may_go_on = threading.Event()

    def answer(self, messages, settings, tell=None):
        def hold(piece: str) -> None:
            tell(piece)
            assert self.may_go_on.wait(60)

        return super().answer(messages, settings, hold)


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "live.jsonl")


def test_the_first_piece_is_read_while_the_policy_is_writing(tiny_model, recorder):
    policy = Held(tiny_model)
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(policy, recorder), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        stream = client.chat.completions.create(model="m", messages=list(ASKED), stream=True, seed=3)
        pieces = (piece.choices[0] for piece in stream)
        first = next(choice.delta.content for choice in pieces if choice.delta.content)
        assert first and recorder.num_answers == 0 and recorder.log.path.stat().st_size == 0
        policy.may_go_on.set()
        left = list(pieces)
    finally:
        policy.may_go_on.set()
        server.should_exit = True
        thread.join(60)
    (answer,) = [json.loads(line) for line in recorder.log.path.read_text().splitlines()]
    assert first + "".join(choice.delta.content or "" for choice in left) == answer["messages"][-1]["content"]
    assert len(left) > 20 and left[-1].finish_reason == "length"
    assert all(choice.finish_reason is None for choice in left[:-1])


def test_pieces_are_the_beginning_of_the_answer_whatever_bytes_it_has(tiny_model):
    policy = LocalPolicy(tiny_model, None, 60)
    for seed in range(4):
        told = []
        answer = policy.answer(ASKED, {"seed": seed}, told.append)
        assert len(told) > 10 and answer.text.startswith("".join(told)) and "\ufffd" in answer.text
        assert answer == policy.answer(ASKED, {"seed": seed})


def test_a_character_is_told_when_all_its_bytes_are_there():
    words = tokenizer()
    told = []
    teller = TokenTeller(words, told.append)
    for token in words.encode("aé日!", add_special_tokens=False):
        teller(0, token)
    assert told == ["a", "é", "日", "!"]  # of one, two, three and one byte
    words.clean_up_tokenization_spaces = True  # it may take back a space that it has given
    TokenTeller(words, told.append)(0, words.encode("a")[0])
    assert len(told) == 4


def test_what_cannot_be_recorded_has_no_end(tiny_model, recorder, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    client = TestClient(build_app(LocalPolicy(tiny_model, None, 20), recorder))
    monkeypatch.setattr("os.write", fail)
    reply = client.post("/v1/chat/completions", json={"messages": list(ASKED), "stream": True, "seed": 3})
    *pieces, last = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if line]
    assert len(pieces) > 5 and all(piece["choices"][0]["finish_reason"] is None for piece in pieces)
    assert last["error"]["status"] == 507 and "No space left" in last["error"]["message"]
