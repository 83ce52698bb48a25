"""fdt's side: the same step, on-policy, by `Learner` and `Experience`, one at a time."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from transformers import AutoTokenizer

from fdt.engines import HuggingFace
from fdt.experience import Experience
from fdt.learner import Learner
from fdt.policy.lora import LoRA
from fdt.policy.teachers import EMA
from fdt.rollout.sources import OnPolicy
from feedback.graders import FunctionGrader
from objectives import Distill, GroupRelative, PolicyGradient, SequenceMean
from versus.work import LEARNING_RATE, STEPS_ALONE, Clock, Stepper, Work, make_prompts, score_episode

HINT_ROOM = 256
"""Tokens that the teacher's prompt may be longer; a row that is too long is dropped."""


def build_terms(work: Work) -> tuple[dict[str, Any], dict[str, float]]:
    """The loss terms, and what they are multiplied by, that say what TRL's configs say."""
    terms: dict[str, Any] = {"policy": PolicyGradient(clip_low=0.2, clip_high=0.2)}
    if work.algorithm == "grpo":
        return terms, {}
    terms["distill"] = Distill(k=work.k, support="student", tail=True, reduction=SequenceMean())
    return terms, {"policy": 0.5, "distill": 0.5}


def build_learner(work: Work) -> Learner:
    """What trains. The KL to the start is left out: TRL does not measure it."""
    terms, coefficients = build_terms(work)
    return Learner(
        terms=terms,
        coefficients=coefficients,
        base=work.model,
        lora=LoRA(rank=work.rank, alpha=2.0 * work.rank),
        dtype=work.dtype,
        gradient_checkpointing=work.checkpointing,
        teacher=EMA(0.05),
        optimizer=lambda params: torch.optim.AdamW(params, lr=LEARNING_RATE, weight_decay=0.0),
        tokens_per_microbatch=work.tokens,
        log_kl_to_init=False,
        seed=work.seed,
    )


def build_experience(work: Work, folder: Path) -> Experience:
    """The prompts, the grader and the engine."""
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    texts = make_prompts(tokenizer, work.prompts * (work.steps + 1), work.prompt_tokens)
    for name, own in (("prompts", texts), ("heldout", texts[:1])):
        lines = [json.dumps({"id": f"{name}-{n}", "prompt": text}) for n, text in enumerate(own)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Experience(
        file=str(folder / "prompts.jsonl"),
        heldout=str(folder / "heldout.jsonl"),
        source=OnPolicy(prompts_per_rollout=work.prompts, num_generations=work.generations),
        credit=GroupRelative(),
        grader=FunctionGrader(score_episode),
        engine=HuggingFace(max_new_tokens=work.answer_tokens, batch_size=max(64, work.total)),
        max_tokens=work.prompt_tokens + work.answer_tokens + HINT_ROOM,
        seed=work.seed,
    )


class Turns(Callback):
    """Makes a step when the driver asks for one."""

    def __init__(self, stepper: Stepper) -> None:
        self.stepper = stepper

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.stepper.wait()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        student = outputs["batch"].student
        answered = int(student.target.sum())
        self.stepper.report(answers=len(student.lengths), answered=answered, read=int(student.lengths.sum()))
        if not self.stepper.wait():
            trainer.should_stop = True


def run(work: Work) -> None:
    """Trains, a step for each line that is read."""
    clock = Clock(work.device)
    stepper = Stepper(clock)
    folder = Path(tempfile.mkdtemp(prefix="versus-fdt-"))
    learner = build_learner(work)
    clock.wrap(HuggingFace, "generate", "rollout")
    clock.wrap(learner, "compute_loss", "forward")
    clock.wrap(learner, "manual_backward", "backward")
    trainer = Trainer(
        accelerator="gpu" if work.device == "cuda" else "cpu",
        devices=1,
        max_steps=work.steps + 1,
        **STEPS_ALONE,
        default_root_dir=str(folder),
        callbacks=[Turns(stepper)],
    )
    trainer.fit(learner, datamodule=build_experience(work, folder))
    stepper.finish()
