"""From words to a gradient: what graders read in answers becomes the advantages that a run trains on."""

from __future__ import annotations

import csv
import json
import math

import pytest
import yaml

from fdt.rollout.advantages import compute_advantages
from feedback.graders import FormatGrader, GraderChain, MetaTags, NumberMatch, StatedConfidence, StepSimilarity
from feedback.types import Episode, Task, Turn
from objectives import Brier, FormatGate, GroupRelative, MetaReasoning
from tests.helpers.runs import ROOT, config, quick, without_terms

RLCR = [{"class_path": "feedback.graders.NumberMatch"}, {"class_path": "feedback.graders.StatedConfidence"}]


def answers(*texts: str, reference: str = "33") -> list[Episode]:
    task = Task("t", ({"role": "user", "content": "What is 14 + 19?"},), reference)
    return [Episode(f"t#{n}", task, (Turn("assistant", text),)) for n, text in enumerate(texts)]


def credit(**settings) -> GroupRelative:
    return GroupRelative("none", reward=FormatGate(**settings))


def test_rlcr_from_text_to_advantages():
    chain = GraderChain([NumberMatch(), StatedConfidence()])
    judged = chain(
        answers("33 Confidence: 0.9", "33 Confidence: 50%", "3 <confidence>.9</confidence>", "3 confidence = 0.1")
    )
    # R = c - (q - c)^2 = [.99, .75, -.81, -.01], mean .23
    worth = compute_advantages(credit(reward=Brier()), judged)
    assert worth.tolist() == pytest.approx([0.76, 0.52, -1.04, -0.24])
    # The published reward is 1 + R / 2 and 0 for the ill-formed: [1.495, .995, 0], mean .83
    judged = chain(answers("33 Confidence: 0.9", "3 Confidence: 0.1", "33"))
    worth = compute_advantages(credit(bonus=1.0, reward=Brier(correctness=0.5, weight=0.5)), judged)
    assert worth.tolist() == pytest.approx([0.665, 0.165, -0.83])


def test_a_group_that_never_states_a_confidence_is_ill_formed_not_an_error():
    judged = GraderChain([NumberMatch(), StatedConfidence()])(answers("33", "3"))
    assert compute_advantages(credit(reward=Brier()), judged).tolist() == [0, 0]


def test_srl_from_text_to_advantages():
    judged = StepSimilarity()(answers("<think>?</think> add 2 to 2", "add 2 and 2", "<think>?", reference="add 2 to 2"))
    # Similarities 1 and .75, and -1 for the thought that never ends: mean .25
    assert compute_advantages(credit(invalid=-1.0), judged).tolist() == pytest.approx([0.75, 0.5, -1.25])


def test_rlvmr_from_text_to_advantages():
    kinds = ("planning", "planning", "monitor", "planning")
    texts = [f"<{kind}>so</{kind}><action>{n}</action>" for kind, n in zip(kinds, (33, 1, 2, 33), strict=True)]
    judged = GraderChain([NumberMatch(), MetaTags()])(answers(*texts))
    # Outcomes [1, 0, 0, 1]: .8660 and -.8660. Planning pays [1, 0, 1]: .5774, -1.1547, .5774. Half of each; a lone
    # monitor keeps its 0.
    worth = compute_advantages(MetaReasoning(), judged)
    assert worth[:, 0].tolist() == pytest.approx([0.7217, -1.0104, -0.4330, 0.7217], abs=1e-4)


def test_any_fault_of_the_format_closes_the_gate():
    judged = GraderChain([NumberMatch(), StatedConfidence(), FormatGrader(words=3)])(
        answers("33 Confidence: 0.9", "it is surely 33 Confidence: 0.9")
    )
    assert compute_advantages(credit(reward=Brier()), judged).tolist() == pytest.approx([0.495, -0.495])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["recites", "samples"])
def test_two_steps_of_rlcr_on_the_command_line(tmp_path, engine):
    """All answers are wrong: stated with .1 they earn 1 - .01 / 2 = .995, with .9 1 - .81 / 2 = .595, unstated 0."""
    texts = ["-7 <confidence>0.1</confidence>", "-7 Confidence: 90%", "-7"]
    made = {
        "recites": {"class_path": "tests.helpers.reciting.Recite", "init_args": {"texts": texts}},
        "samples": {"class_path": "fdt.engines.HuggingFace", "init_args": {"max_new_tokens": 6}},
    }[engine]
    source = {
        "class_path": "fdt.rollout.sources.OnPolicy",
        "init_args": {"prompts_per_rollout": 2, "num_generations": 3},
    }
    path = config(
        tmp_path,
        data__source=source,
        data__engine=made,
        trainer__max_steps=2,
        data__grader={"class_path": "feedback.graders.GraderChain", "init_args": {"graders": RLCR}},
    )
    done = quick("fit", "-c", str(without_terms(path)), "-c", str(ROOT / "configs" / "algorithm" / "rlcr.yaml"))
    assert done.returncode == 0, done.stderr[-2000:]
    with (tmp_path / "run" / "metrics" / "version_0" / "metrics.csv").open() as file:
        steps = [row for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(steps) == 2 and all(math.isfinite(float(row["train/loss"])) for row in steps)
    told = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    assert len(told) == 12 and {record["score"] for record in told} == {0.0}
    worth = {"recites": [0.465, 0.065, -0.53], "samples": [0, 0, 0]}[engine]  # the mean of .995, .595 and 0 is .53
    assert [record["advantage"] for record in told] == pytest.approx(worth * 4)
    assert [float(row["train/optim/grad_norm"]) > 0 for row in steps] == [engine == "recites"] * 2


def kind(grader: dict) -> str:
    return grader["class_path"].rpartition(".")[2]


@pytest.mark.slow
def test_every_critic_can_be_named_in_a_config(tmp_path):
    pytest.importorskip("math_verify")
    plain = [
        "NumberMatch",
        "ExactMatch",
        "MathMatch",
        "GymScore",
        "StatedConfidence",
        "FormatGrader",
        "StepSimilarity",
        "MetaTags",
    ]
    named = [{"class_path": f"feedback.graders.{name}"} for name in plain]
    named += [
        {"class_path": "feedback.graders.RegexMatch", "init_args": {"pattern": r"\d", "critique": "A number, please."}},
        {
            "class_path": "feedback.graders.NumberMatch",
            "init_args": {"extract": {"class_path": "feedback.graders.TagExtractor", "init_args": {"tag": "final"}}},
        },
        {
            "class_path": "feedback.graders.StepSimilarity",
            "init_args": {"split": "feedback.graders.similarity.split_characters"},
        },
        {
            "class_path": "fdt.reward_models.RewardModel",
            "init_args": {
                "model": "m",
                "scale": {"class_path": "fdt.reward_models.MinMax", "init_args": {"low": -1, "high": 1}},
            },
        },
        {"class_path": "fdt.reward_models.ProcessReward", "init_args": {"model": "m"}},
    ]
    path = config(
        tmp_path, data__grader={"class_path": "feedback.graders.GraderChain", "init_args": {"graders": named}}
    )
    done = quick("fit", "-c", str(path), "--print_config")
    assert done.returncode == 0, done.stderr[-2000:]
    printed = yaml.safe_load(done.stdout)["data"]["grader"]["init_args"]["graders"]
    assert [kind(one) for one in printed] == [kind(one) for one in named]
    assert printed[6]["init_args"]["split"] == "feedback.graders.similarity.split_words"
