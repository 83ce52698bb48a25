"""Planning tokens: which tokens a phrase marks, what they are worth, and what a run tells of them; HICRA from a file of
solutions to a gradient."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fdt.data.collate import Collator
from fdt.data.markers import Pattern, StrategicGrams
from fdt.data.offset_mapping import compute_offsets
from fdt.engines import FORCED
from fdt.errors import UserError
from fdt.metrics import planning as phases
from fdt.rollout.advantages import compute_advantages
from fdt.rollout.checks import check_masks
from feedback.types import Episode, Feedback, Task, Turn
from objectives import GroupRelative, Objective, PlanningGradient
from tests.helpers.rollouts import scored
from tests.helpers.runs import ROOT, config, quick, without_terms
from tests.helpers.tiny import tokenizer

WORDS = tokenizer()
END = WORDS.eos_token_id
TASK = Task("t", ({"role": "user", "content": "go"},))


def shaped(rollouts):
    """The advantages [N] that HICRA's term trains with."""
    return PlanningGradient().compute_advantages(
        scored(len(rollouts.advantages)), {}, rollouts, torch.arange(len(rollouts.advantages))
    )


def merged() -> PreTrainedTokenizerFast:
    """Byte pairs, so that tokens are words with the blank before them."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    texts = ["let me check that now"] * 5 + [" let me check that now, so"] * 5
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


def pieces() -> PreTrainedTokenizerFast:
    """Words with the mark of a blank, whose decoder drops the first blank: it looks further back than one token."""
    core = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "c": 2, "<unk>": 3}, unk_token="<unk>"))
    core.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


@pytest.fixture
def grams(tmp_path) -> str:
    path = tmp_path / "grams.json"
    path.write_text(json.dumps(["let me check", "so then"]))
    return str(path)


def sampled(text: str) -> Turn:
    ids = (*WORDS(text, add_special_tokens=False)["input_ids"], END)
    return Turn("assistant", text, ids, (-1.0,) * len(ids), True)


def test_each_id_has_its_characters():
    words = merged()
    text = "now let me check é that"
    ids = words(text, add_special_tokens=False)["input_ids"]
    found = compute_offsets([*ids, words.eos_token_id], text, words)
    written = [words.decode([i]) for i in ids]
    assert " check" in written and len(ids) < 12
    for word, (start, end) in zip(written, found, strict=False):
        assert "�" in word or text[start:end] == word
    # The letter of two bytes is two ids' letter, and the end token wrote nothing.
    shared = [span for word, span in zip(written, found, strict=False) if "�" in word]
    assert len(shared) == 2 and shared[0] == shared[1] and "é" in text[slice(*shared[0])]
    assert found[-1] == (len(text), len(text))


def test_a_decoder_that_looks_back_and_ids_that_write_no_text():
    words = pieces()
    ids = [0, 2, 1] * 30
    text = words.decode(ids)
    assert text.startswith("ac b")
    found = compute_offsets(ids, text, words)
    assert "".join(text[start:end] for start, end in found) == text and found[:4] == [(0, 1), (1, 2), (2, 4), (4, 6)]
    with pytest.raises(ValueError, match="ids that write"):
        compute_offsets(ids, text + "x", words)
    assert compute_offsets([], "", words) == []


@given(st.lists(st.integers(0, 255), max_size=120))
@settings(max_examples=60, deadline=None)
def test_any_bytes_cover_their_text_in_order(ids):
    text = WORDS.decode(ids, skip_special_tokens=True)
    found = compute_offsets(ids, text, WORDS)
    assert len(found) == len(ids) and all(start <= end for start, end in found)
    assert [start for start, _ in found] == sorted(start for start, _ in found)
    assert {place for start, end in found for place in range(start, end)} == set(range(len(text)))


def test_planning_tokens_of_two_turns_token_by_token(grams):
    turns = (sampled("Hm, let me check"), Turn("user", "let me check"), sampled("so then 3"))
    batch = Collator(WORDS, marker=StrategicGrams(grams))(
        [Episode("e", TASK, turns, (Feedback(score=1.0),))], torch.tensor([[0.5, -2.0]])
    )
    # One byte a token: "Hm, " and the end token execute, "let me check" plans; "so then" plans, " 3" does not. What the
    # user says is no target at all.
    expected = [False] * 4 + [True] * 12 + [False] + [True] * 7 + [False] * 3
    assert batch.rollouts.masks["planning"].tolist() == expected
    assert "planning" not in Collator(WORDS)([Episode("e", TASK, turns, ())], torch.zeros(1)).rollouts.masks
    worth = shaped(batch.rollouts).tolist()
    # A' = A + .2 |A|: .5 becomes .6, -2 becomes -1.6.
    assert worth == pytest.approx([0.5] * 4 + [0.6] * 12 + [0.5] + [-1.6] * 7 + [-2.0] * 3)


def test_a_phrase_over_forced_tokens_marks_the_chosen_ones(grams):
    own = tuple(WORDS("so then", add_special_tokens=False)["input_ids"])
    turn = Turn("assistant", "so then", own, (-1.0, -1.0, *[FORCED] * 3, -1.0, -1.0), True)
    batch = Collator(WORDS, marker=StrategicGrams(grams))([Episode("e", TASK, (turn,), ())], torch.zeros(1))
    assert batch.rollouts.masks["planning"].tolist() == [True] * 4
    recorded = Episode("r", TASK, (Turn("assistant", "a so then"),), (Feedback(revision="so then"),))
    batch = Collator(WORDS, marker=StrategicGrams(grams))([recorded], torch.zeros(1))
    marks, shown = batch.rollouts.masks["planning"], batch.rollouts.masks["imitated"]
    assert marks[~shown].tolist() == [False] * 2 + [True] * 7 + [False] and marks[shown].tolist() == [True] * 7 + [
        False
    ]


def test_hicra_from_scores_to_tokens(grams):
    """R = [1, 0, 0, 1]: planning .6, -.4, -.4, .6, the others +-.5; equal rewards give 0."""
    group = [
        Episode(f"e{n}", TASK, (sampled("so then 3"),), (Feedback(score=score),))
        for n, score in enumerate((1, 0, 0, 1))
    ]
    credit, collator = GroupRelative("none"), Collator(WORDS, marker=StrategicGrams(grams))
    worth = compute_advantages(credit, group)
    assert worth.tolist() == [0.5, -0.5, -0.5, 0.5]
    batch = collator(group, worth)
    rows = [shaped(batch.rollouts)[batch.rollouts.episode == n] for n in range(4)]
    for row, (plan, rest) in zip(rows, ((0.6, 0.5), (-0.4, -0.5), (-0.4, -0.5), (0.6, 0.5)), strict=True):
        assert row.tolist() == pytest.approx([plan] * 7 + [rest] * 3)
    same = [replace(episode, feedback=(Feedback(score=1.0),)) for episode in group]
    flat = collator(same, compute_advantages(credit, same))
    assert shaped(flat.rollouts).eq(0).all()


def test_a_mask_that_nothing_sets_is_refused(grams):
    objective = Objective({"policy": PlanningGradient()})
    check_masks(objective, StrategicGrams(grams))
    with pytest.raises(UserError, match="mask that nothing sets.*fdt grams"):
        check_masks(objective, None)
    with pytest.raises(UserError, match="expected one of .*plans"):
        check_masks(objective, StrategicGrams(grams, name="plans"))
    with pytest.raises(UserError, match="a name of its own"):
        StrategicGrams(grams, name="sampled")
    with pytest.raises(UserError, match="a name of its own"):
        StrategicGrams(grams, name="execution")


def test_semantic_entropy():
    # [4, 2, 1, 1] of 8: 1.75 bits, 1.213 nats.
    found = phases.semantic_entropy(Counter(a=4, b=2, c=1, d=1))
    assert found == pytest.approx(1.213, abs=5e-4) and found / math.log(2) == pytest.approx(1.75)
    assert phases.semantic_entropy(Counter(a=9)) == 0 and math.isnan(phases.semantic_entropy(Counter()))


def test_phrases_of_an_episode_of_several_rows_count_once(grams):
    turns = (Turn("assistant", "so then, let me check. So then"), Turn("user", "so then"), Turn("assistant", "so then"))
    episode = Episode("e", TASK, turns)
    assert phases.count_phrases([episode, episode], StrategicGrams(grams)) == {"so then": 3, "let me check": 1}


def test_levels():
    # 2 of 10 tokens plan; the other 8 have a mean NLL of ln 2, a perplexity of 2.
    given = {
        "phases/planning/tokens": 2.0,
        "phases/planning/nll": 4.0,
        "phases/planning/entropy": 3.0,
        "phases/execution/tokens": 8.0,
        "phases/execution/nll": 8 * math.log(2),
        "phases/execution/entropy": 4.0,
        "tokens": 1.0,
    }
    assert phases.compute_planning_metrics(given) == pytest.approx(
        {"planning_share": 0.2, "planning_entropy": 1.5, "execution_entropy": 0.5, "execution_perplexity": 2.0}
    )
    assert given == {"tokens": 1.0} and phases.compute_planning_metrics({"tokens": 1.0}) == {}


def hicra(folder, *arguments, steps=2, **changes):
    """A run whose answers recite: right with a plan, wrong with another, right without."""
    texts = ["Let me check: 1", "so then -7", "-7", "1"]
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {"prompts_per_rollout": 2, "num_generations": 4},
    }
    path = config(
        folder,
        data__source=source,
        trainer__max_steps=steps,
        data__engine={"class_path": "tests.helpers.reciting.Recite", "init_args": {"texts": texts}},
        **changes,
    )
    done = quick("fit", "-c", without_terms(path), "-c", ROOT / "configs" / "algorithm" / "hicra.yaml", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    versions = sorted((folder / "run" / "metrics").iterdir())
    with (versions[-1] / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_a_run_amplifies_and_measures_and_goes_on_where_it_stood(tmp_path, grams):
    marker = {"class_path": "fdt.data.markers.StrategicGrams", "init_args": {"file": grams}}
    rows = hicra(tmp_path, data__marker=marker)
    told = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    tokens = [
        record["tokens"] for record in told if record["response"].startswith("Let me check") and "tokens" in record
    ]
    assert tokens
    values = [token["advantage"] for token in tokens[0]]
    # "Let me check" is 12 bytes; then ": 1" and the end token.
    assert len(values) == 16 and values[:12] == pytest.approx([values[12] + 0.2 * abs(values[12])] * 12, abs=1e-4)
    for row in rows:
        # Each group of four says one phrase once and the other once: ln 2 nats; 12 + 7 of 16 + 11 + 3 + 2 tokens plan.
        assert float(row["train/semantic_entropy"]) == pytest.approx(math.log(2), abs=1e-6)
        assert float(row["train/planning_share"]) == pytest.approx(19 / 32)
        assert float(row["train/execution_perplexity"]) > 1 and float(row["train/planning_entropy"]) > 0
    ratio = float(rows[1]["train/execution_perplexity"]) / float(rows[0]["train/execution_perplexity"])
    assert [float(row["train/execution_perplexity_relative"]) for row in rows] == pytest.approx([1.0, ratio])
    (more,) = hicra(tmp_path, "--ckpt_path", "last", steps=3, data__marker=marker)
    ratio = float(more["train/execution_perplexity"]) / float(rows[0]["train/execution_perplexity"])
    assert float(more["train/execution_perplexity_relative"]) == pytest.approx(ratio)


@pytest.mark.slow
def test_a_replay_marks_what_a_file_holds(tmp_path, grams):
    marker = {"class_path": "fdt.data.markers.StrategicGrams", "init_args": {"file": grams}}
    rows = tmp_path / "rows.jsonl"
    answers = [("so then 3", 1.0), ("4", 0.0)]
    rows.write_text(
        "".join(
            json.dumps({"id": f"{t}-{n}", "task": f"t{t}", "prompt": f"{t}?", "response": text, "score": s}) + "\n"
            for t in range(6)
            for n, (text, s) in enumerate(answers)
        )
    )
    path = config(
        tmp_path,
        "replay",
        data__marker=marker,
        trainer__max_steps=1,
        data__evaluation_limit=1,
        data__credit={"class_path": "objectives.GroupRelative", "init_args": {"scale": "none"}},
        model__terms={"policy": {"class_path": "objectives.PlanningGradient"}},
        model__coefficients={},
    )
    done = quick("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    (plan,) = [
        [round(token["signal/policy"], 4) for token in record["tokens"]]
        for record in told
        if record["response"] == "so then 3" and "tokens" in record
    ][:1]
    assert plan == [0.6] * 7 + [0.5] * 3


def test_a_pattern_marks_what_it_matches():
    marker = Pattern("[a-z]+:")
    assert [(item.gram, item.start, item.end) for item in marker.find_spans("first: 12\nthen: 3")] == [
        ("first:", 0, 6),
        ("then:", 10, 15),
    ]
    assert Pattern("x*").find_spans("abc") == [], "a match without characters marks nothing"


@pytest.mark.parametrize(
    ("pattern", "name", "words"), [("(", "planning", "regular expression"), ("a", "distilled", "name of its own")]
)
def test_a_pattern_or_name_that_cannot_be_is_refused(pattern: str, name: str, words: str):
    with pytest.raises((UserError, ValueError), match=words):
        Pattern(pattern, name)
