"""A turn ends as its template ends it, in recorded answers, in history and where engines stop."""

import json

import pytest
import torch

from fdt.data.chat.template import find_stop_ids, find_turn_end, set_further_stops
from fdt.data.collate import Collator
from fdt.engines import HuggingFace, Limit
from fdt.engines.completions import Completion
from fdt.engines.rounds import generate_in_rounds
from fdt.policy.policy import Policy
from feedback.types import Episode, Task, Turn
from tests.helpers.chats import FAMILIES, tokenizer
from tests.helpers.tiny import save_model


@pytest.mark.parametrize(
    "family, end",
    [(name, special[0]) for name, (_, special, _) in FAMILIES.items()]
    + [("gemma", "<end_of_turn>"), ("qwen", "<|im_end|>")],
)
def test_the_end_is_the_templates_own(family, end):
    tokens = tokenizer(family)
    assert tokens.convert_ids_to_tokens(find_turn_end(tokens)) == end
    assert find_stop_ids(tokens) == tuple(dict.fromkeys([tokens.convert_tokens_to_ids(end), tokens.eos_token_id])), (
        "the tokenizer's end of sequence ends an answer as well"
    )


def test_a_template_that_refuses_an_answer_leaves_the_tokenizers_end():
    tokens = tokenizer("gemma")
    tokens.chat_template = "{% for m in messages %}{{ raise_exception('no') }}{% endfor %}"
    assert find_turn_end(tokens) == tokens.eos_token_id


def test_recorded_turns_are_closed_as_the_template_closes_them():
    tokens = tokenizer("gemma")
    task = Task("t", ({"role": "user", "content": "Name a bird."},))
    turns = (Turn("assistant", "A carp."), Turn("user", "A bird!"), Turn("assistant", "A duck."))
    rows = [Episode("e", task, turns), Episode("c", task, turns, finished=False)]
    batch = Collator(tokens, None)(rows, torch.zeros(2))
    whole, cut = (
        tokens.decode(ids[:size]) for ids, size in zip(batch.student.tokens, batch.student.lengths, strict=True)
    )
    assert whole == (
        "<bos><start_of_turn>user\nName a bird.<end_of_turn>\n<start_of_turn>model\nA carp.<end_of_turn>\n"
        "<start_of_turn>user\nA bird!<end_of_turn>\n<start_of_turn>model\nA duck.<end_of_turn>"
    )
    assert cut == whole.removesuffix("<end_of_turn>")
    assert tokens.decode(batch.student.tokens[0][batch.student.target[0]]) == "A carp.<end_of_turn>A duck.<end_of_turn>"


def test_a_sampled_turn_that_ended_otherwise_is_not_ended_twice():
    tokens = tokenizer("gemma")
    ids = (*tokens("A carp.", add_special_tokens=False)["input_ids"], tokens.eos_token_id)
    task = Task("t", ({"role": "user", "content": "A bird?"},))
    turns = (Turn("assistant", "A carp.", ids, sampled=True), Turn("user", "No."), Turn("assistant", "A duck."))
    batch = Collator(tokens, None)([Episode("e", task, turns)], torch.zeros(1))
    assert "A carp.<eos>\n<start_of_turn>user\nNo.<end_of_turn>" in tokens.decode(batch.student.tokens[0])


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A model whose generation config names the template's end and a letter, under a tokenizer that names another."""
    folder = save_model(tmp_path_factory.mktemp("gemma"))
    tokens = tokenizer("gemma")
    end = find_turn_end(tokens)
    tokens.save_pretrained(folder)
    config = json.loads((folder / "generation_config.json").read_text())
    bos = tokens.convert_tokens_to_ids("<bos>")
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [3, end, bos]}))
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokens))
    model.generation_config.eos_token_id = [3, end, bos]
    model.save_pretrained(folder)
    return Policy(str(folder), None, "float32")


def test_generation_stops_at_the_templates_end_the_tokenizers_and_the_listed_ones(policy):
    tokens = policy.tokenizer
    names = [tokens.convert_ids_to_tokens(i) for i in policy.stop_ids]
    assert names == ["<end_of_turn>", "<eos>", "<bos>"], "letters of a config made for another tokenizer end nothing"
    with torch.no_grad():  # every token alike: one of three in the 270 ends an answer
        policy.head.zero_()
    samples = HuggingFace(250).generate(policy, [[1, 2]] * 32, 0)
    stops = [next((n for n, i in enumerate(s.ids) if i in policy.stop_ids), None) for s in samples]
    assert sum(stop is not None for stop in stops) > 8
    assert all(stop is None or stop == len(s.ids) - 1 for stop, s in zip(stops, samples, strict=True))
    assert {s.ids[-1] for s in samples if len(s.ids) < 250} == set(policy.stop_ids)


def test_rounds_end_at_any_of_the_stops(policy):
    for stop in policy.stop_ids:

        def written(asks, stop=stop):
            return [Completion((5, stop), (-1.0, -1.0), "", False) for _ in asks]

        (sample,) = generate_in_rounds(written, policy.tokenizer, [[1]], 1, [Limit(9)], policy.stop_ids)
        assert sample.ids == (5, stop)


def test_vllm_is_told_all_stops(policy, monkeypatch):
    from fdt.engines import VLLMServer
    from fdt.engines.vllm import server

    monkeypatch.setattr("fdt.engines.vllm.weight_sync.ServerWeightSync.hand_over", lambda self, snapshot: None)
    monkeypatch.setattr("fdt.engines.vllm.weight_sync.ServerWeightSync.verify", lambda self: None)
    monkeypatch.setattr(server, "_find_base_name", lambda place: "m")
    engine = VLLMServer(url="http://127.0.0.1:9/v1")
    (member,) = engine._find_members(policy)
    client = engine._connect_member(member, engine._find_snapshot(policy), policy)
    from fdt.engines.completions import CompletionRequest

    assert client.build_body(CompletionRequest([1], 2, 3))["stop_token_ids"] == list(policy.stop_ids)


@pytest.mark.parametrize("further", [[], ["<bos>"]])
def test_an_end_that_only_the_generation_config_lists_is_no_end_too_few(further):
    """Llama's `<|eom_id|>` before a tool's answer, GLM's next role: the template's own end does not follow it."""
    tokens = tokenizer("gemma")
    set_further_stops(tokens, [tokens.convert_tokens_to_ids(name) for name in further])
    end = tokens.convert_tokens_to_ids("<bos>")
    ids = (*tokens("A carp.", add_special_tokens=False)["input_ids"], end)
    task = Task("t", ({"role": "user", "content": "A bird?"},))
    turns = (Turn("assistant", "A carp.", ids, sampled=True), Turn("user", "No."), Turn("assistant", "A duck."))
    batch = Collator(tokens, None)([Episode("e", task, turns)], torch.zeros(1))
    between = "\n" if further else "<end_of_turn>\n"
    assert f"A carp.<bos>{between}<start_of_turn>user\nNo." in tokens.decode(batch.student.tokens[0])
