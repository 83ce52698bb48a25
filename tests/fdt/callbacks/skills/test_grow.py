"""A bank that grows in a run: what it learns from, who reads it, and that a killed run recalls the same."""

import json
import signal
from pathlib import Path

import pytest
import torch

from fdt.callbacks import GrowSkills
from fdt.callbacks.skills.attempts import build_episode, list_measured
from fdt.errors import UserError
from feedback.skills import Shown, TemplateSkills, WordOverlap
from feedback.types import Task
from tests.helpers.runs import config, quick
from tests.helpers.tiny import save_rows

WORDS = {"class_path": "feedback.skills.WordOverlap"}
WRITER = {"class_path": "feedback.skills.TemplateSkills"}
SHOWN = {"class_path": "feedback.skills.Shown", "init_args": {"embedder": WORDS, "threshold": 0.2, "top_k": 2}}
WHISPERED = SHOWN | {"class_path": "feedback.skills.Whispered"}


def callbacks(grow: dict, every: int = 1, kill: int | None = None) -> list[dict]:
    made = [
        {"class_path": "fdt.callbacks.Checkpoint", "init_args": {"every_n_train_steps": every}},
        {"class_path": "fdt.callbacks.GrowSkills", "init_args": {"writer": WRITER} | grow},
    ]
    return made + (
        [{"class_path": "tests.helpers.probes.KillAt", "init_args": {"step": kill}}] if kill is not None else []
    )


def fit(folder: Path, called: list[dict], *arguments: str, code: int = 0, **settings):
    settings = {"data__skills": SHOWN, "trainer__max_steps": 4} | settings
    done = quick("fit", "-c", config(folder, trainer__callbacks=called, **settings), *arguments)
    assert done.returncode == code, done.stderr[-2000:]
    return done


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def bank(folder: Path) -> list[dict]:
    return json.loads((folder / "run" / "skills.json").read_text())["skills"]


def last(folder: Path) -> dict:
    return torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=False)


def test_losses_become_lessons_that_the_policy_reads(tmp_path):
    done = fit(tmp_path, callbacks({"every_n_train_steps": 1}), trainer__max_steps=3)
    grown = bank(tmp_path)
    assert [skill["id"] for skill in grown] == [f"skill-{n:03d}" for n in range(1, len(grown) + 1)]
    # Before the first step: both held-out prompts failed. Then steps of two prompts, whose critiques are all new.
    held = {record["id"] for record in read(tmp_path / "run" / "eval" / "base.jsonl")}
    assert {skill["tasks"][0] for skill in grown if skill["origin"] == "validation"} == held
    assert {skill["step"] for skill in grown if skill["origin"] == "training"} <= {1, 2, 3}
    assert all(skill["principle"].startswith("It is wrong: the right answer is") for skill in grown)
    # What was asked, without the skills that stood beside it.
    assert all(skill["when_to_apply"].endswith("+ 1?") for skill in grown)
    records = read(tmp_path / "run" / "transcripts.jsonl")
    assert {skill["id"] for skill in records[0]["skills"]} <= {s["id"] for s in grown if s["origin"] == "validation"}
    for record in records:
        shown = record["prompt"].partition("What earlier attempts taught:")[2].splitlines()[1:]
        assert 1 <= len(shown) == len(record["skills"]) <= 2 and all(one["shown"] for one in record["skills"])
        assert all(one["similarity"] > 0.2 for one in record["skills"])
    # Held-out prompts get what training taught, and nothing that held-out answers did.
    measured = [one["id"] for record in read(tmp_path / "run" / "eval" / "last.jsonl") for one in record["skills"]]
    assert measured and {s["origin"] for s in grown if s["id"] in measured} == {"training"}
    assert "validation attempts taught skill-001" in done.stderr and f"skills: {len(grown)} in the bank" in done.stderr
    state = last(tmp_path)["Experience"]["skills"]
    assert json.loads(state)["skills"] == grown


def test_what_is_whispered_reaches_the_teacher_alone(tmp_path):
    hint = {"class_path": "feedback.hints.SkillHint"}
    fit(tmp_path, callbacks({}), data__skills=WHISPERED, data__hint=hint, trainer__max_steps=2)
    for record in read(tmp_path / "run" / "transcripts.jsonl"):
        assert record["skills"] and not any(one["shown"] for one in record["skills"])
        assert record["prompt"].endswith("+ 1?") and record["response"] is not None
        assert "What earlier attempts taught:\n- What an answer got wrong: It is wrong" in record["teacher_prompt"]
    assert all(record["prompt"].endswith("+ 1?") for record in read(tmp_path / "run" / "eval" / "last.jsonl"))


def test_recorded_answers_are_read_with_skills_by_the_teacher(tmp_path):
    file = tmp_path / "bank.json"
    file.write_text('{"skills": [{"kind": "general", "principle": "Count one up."}]}')
    use = {"class_path": "feedback.skills.Whispered", "init_args": {"embedder": WORDS, "file": str(file)}}
    hint = {"class_path": "feedback.hints.SkillHint"}
    path = config(tmp_path, "replay", data__skills=use, data__hint=hint, trainer__max_steps=1)
    done = quick("fit", "-c", path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(r["teacher_prompt"].endswith("- Count one up.") for r in read(tmp_path / "run" / "transcripts.jsonl"))


@pytest.mark.parametrize(
    "mode, settings, message",
    [
        ("on_policy", {"data__skills": WHISPERED}, "data.hint: nobody reads the skills that are whispered"),
        ("on_policy", {"data__hint": {"class_path": "feedback.hints.SkillHint"}}, "the hint names {skills}"),
        ("replay", {"data__skills": SHOWN}, "recorded answers were given to prompts without skills"),
        ("on_policy", {"trainer__callbacks": callbacks({})}, "data.skills: no bank to add to"),
    ],
)
def test_what_nobody_would_read_is_refused(tmp_path, mode, settings, message):
    done = quick("fit", "-c", config(tmp_path, mode, **settings))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("grow", [{"every_n_validations": 1}, {"every_n_validations": 2, "every_n_train_steps": 2}])
def test_a_killed_run_recalls_the_same_skills(tmp_path, grow):
    """A checkpoint lies before the growth that the measurement of its step brings, and a resumed run makes it up."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    held = tmp_path / "held.jsonl"
    rows = ({"prompt": f"{n} + 1?", "reference": str(n + 1)} for n in range(10, 14))
    held.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for folder in (whole, broken):
        folder.mkdir()
        save_rows(folder / "rows.jsonl", tasks=4)
    # Four prompts, two a step: measured are steps 0, 2, 4 and 6, and each time one more of four losses is told.
    settings = {"trainer__max_steps": 6, "data__heldout": str(held)}
    grow = grow | {"below": 1.1, "max_new": 1}
    fit(whole, callbacks(grow), **settings)
    fit(broken, callbacks(grow, 2, kill=5), code=-signal.SIGKILL, **settings)
    before = json.loads(last(broken)["Experience"]["skills"])["skills"]
    fit(broken, callbacks(grow, 2), "--ckpt_path", "last", **settings)
    assert bank(broken) == bank(whole) and len(bank(whole)) > len(before) >= 2
    told = [
        [(r["step"], r["id"], r["response"], r.get("skills")) for r in read(folder / "run" / "transcripts.jsonl")]
        for folder in (whole, broken)
    ]
    assert told[0] == told[1] and any(skills for *_, skills in told[0])
    for name, value in last(whole)["state_dict"].items():
        assert torch.equal(last(broken)["state_dict"][name], value), name


def test_a_writer_that_says_nothing_leaves_the_bank_as_it_was(tmp_path):
    given = {"writer": {"class_path": "tests.helpers.probes.SaysNothing"}}
    done = fit(tmp_path, callbacks(given), trainer__max_steps=1)
    assert bank(tmp_path) == []
    assert "validation attempts taught nothing, the bank stays as it was: 2 x no JSON" in done.stderr
    assert "skills: 0 in the bank (none); " in done.stderr


def test_samples_of_a_record_are_attempts_each():
    task = Task("t", ({"role": "user", "content": "1 + 1?"},))
    samples = [
        {"response": "2", "score": 1.0},
        {"response": "3", "score": 0.0, "critique": "No."},
        {"response": "", "score": None},
    ]
    use = Shown(WordOverlap())
    found = list_measured([{"id": "t", "response": "2", "samples": samples}], [task], use, lambda score: score >= 0.5)
    assert [(a.episode.id, a.won, a.episode.critique) for a in found] == [("t#0", True, None), ("t#1", False, "No.")]
    with pytest.raises(UserError, match=r"data.evaluation: skills are learned from answers"):
        list_measured([{"id": "t", "nll_sum": 3.0}], [task], use, lambda score: True)


def test_a_conversation_becomes_an_episode_again():
    task = Task("t", ({"role": "user", "content": "Guess."},))
    said = [{"role": "assistant", "text": "3"}, {"role": "user", "text": "higher"}, {"role": "assistant", "text": "5"}]
    episode = build_episode("t#0", task, {"response": "5", "score": 0.5, "critique": "Late.", "conversation": said})
    assert [turn.text for turn in episode.policy_turns] == ["3", "5"] and (episode.score, episode.critique) == (
        0.5,
        "Late.",
    )


@pytest.mark.parametrize(
    "settings", [{"every_n_validations": 0}, {"every_n_train_steps": 0}, {"max_examined": 0}, {"max_new": 0}]
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError, match=f"GrowSkills.{next(iter(settings))}: got 0"):
        GrowSkills(TemplateSkills(), **settings)
