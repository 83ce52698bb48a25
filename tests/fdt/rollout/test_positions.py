"""A model has positions for so many tokens: what is longer is dropped and counted, never read past the end."""

import json

import pytest
import torch
import transformers

from fdt.data.collate import Collator
from fdt.data.splits import load_from_file
from fdt.data.tokenization import tokenize_prompt
from fdt.engines import HuggingFace
from fdt.errors import UserError
from fdt.evaluation.base import Likelihood
from fdt.policy.policy import Policy
from fdt.rollout.actor import Actor
from fdt.rollout.checks import limit_tokens
from fdt.rollout.drafter import PolicyDrafter
from feedback.types import OUT_OF_CONTEXT, Episode, Task, Turn
from tests.helpers.tiny import tokenizer

SHORT = ({"role": "user", "content": "count 0 1 2"},)
LONG = ({"role": "user", "content": "count " + " ".join(map(str, range(60)))},)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Learned positions, 64 of them: one more is an index error."""
    folder = tmp_path_factory.mktemp("gpt2")
    words = tokenizer()
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": None}
    config = transformers.GPT2Config(vocab_size=len(words), eos_token_id=words.eos_token_id, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return Policy(str(folder), None, "float32")


@pytest.fixture
def actor(policy):
    return Actor(policy, HuggingFace(64), Collator(policy.tokenizer, None, limit_tokens(64, policy.positions, "gpt2")))


def test_the_limit_is_the_models_where_it_has_fewer(policy):
    assert policy.positions == 64
    with pytest.warns(UserWarning, match="data.max_tokens 2048 is more than 'gpt2' has positions for: .* 64"):
        assert limit_tokens(2048, policy.positions, "gpt2") == 64
    assert limit_tokens(32, 64, "gpt2") == 32 and limit_tokens(2048, None, "gpt2") == 2048


def test_a_recorded_row_that_is_too_long_is_dropped_and_named(actor):
    rows = [
        Episode(name, Task(name, asked), (Turn("assistant", "one"),)) for name, asked in (("s", SHORT), ("l", LONG))
    ]
    batch = actor.collator(rows, torch.ones(2))
    assert [e.id for e in batch.episodes] == ["s"] and actor.collator.dropped == {"l"}
    assert actor.policy.compute_log_probs(batch.student).log_probs.isfinite().all()


def test_answers_end_where_the_positions_do(actor):
    short, long = actor.generate_episodes([Task("s", SHORT), Task("l", LONG)], 1)
    size = len(tokenize_prompt(SHORT, actor.policy.tokenizer))
    assert 0 < len(short.turns[0].ids) <= 64 - size
    assert long.end_reason == OUT_OF_CONTEXT and not long.turns


def test_a_reference_that_is_too_long_is_not_measured_and_said(actor):
    tasks = [Task("l", LONG, "one"), Task("s", SHORT, "one"), Task("n", SHORT)]
    with pytest.warns(UserWarning, match="1 references are not measured"):
        long, short, none = Likelihood()(tasks, actor)
    assert long is None and none is None and short["id"] == "s"


def test_beside_a_reference_the_worse_answer_is_measured_as_if_it_were_one(actor):
    actor.policy.eval()  # without dropout, as when it is measured
    pair = Task("s", SHORT, "one", rejected="no, two")
    (both,), (other,) = Likelihood()([pair], actor), Likelihood()([Task("o", SHORT, "no, two")], actor)
    assert both["rejected_nll_sum"] == pytest.approx(other["nll_sum"]) and both["rejected_tokens"] == other["tokens"]
    assert both["rejected"] == "no, two" and "rejected" not in other
    with pytest.warns(UserWarning, match="1 worse answers are not measured"):
        (alone,) = Likelihood()([Task("s", SHORT, "one", rejected="no " * 64)], actor)
    assert alone["nll_sum"] == pytest.approx(both["nll_sum"]) and "rejected_tokens" not in alone


def test_a_draft_without_room_is_empty(policy):
    drafts = PolicyDrafter(policy, HuggingFace(64))([list(LONG), list(SHORT)], 2, 1)
    assert drafts[0] == ["", ""] and len(drafts[1]) == 2
    assert PolicyDrafter(policy, HuggingFace(64))([], 2, 1) == []


def test_no_held_out_prompts_are_refused_in_words(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response": "b", "score": 1.0}) + "\n")
    with pytest.raises(UserError, match="data.heldout: nothing to measure on"):
        load_from_file(str(path), "auto", None, None, 0)
