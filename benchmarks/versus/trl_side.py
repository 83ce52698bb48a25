"""TRL's side: `GRPOTrainer` or `SDPOTrainer` in its fastest stock setting, one step at a time."""

from __future__ import annotations

import os
import tempfile
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

from versus.work import CRITIQUE, HINT, LEARNING_RATE, Clock, Stepper, Work, make_prompts, score_text


def reward_completions(completions: list[Any], **_: Any) -> list[float]:
    """The scores of a step's answers."""
    return [score_text(each[0]["content"]) for each in completions]


def build_options(work: Work, folder: str) -> dict[str, Any]:
    """What both of TRL's trainers are told. Its fused head is on by default in GRPO; no reference model is loaded."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": min(work.rows, work.total),
        "gradient_accumulation_steps": max(1, work.total // work.rows),
        "num_generations": work.generations,
        "max_completion_length": work.answer_tokens,
        "max_steps": work.steps + 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "beta": 0.0,
        "loss_type": "dapo",
        "scale_rewards": "group",
        "temperature": 1.0,
        "top_k": 0,
        "epsilon": 0.2,
        "gradient_checkpointing": work.checkpointing,
        "bf16": False,
        "use_cpu": work.device == "cpu",
        "model_init_kwargs": {"dtype": work.dtype, "attn_implementation": "sdpa"},
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1000,
        "seed": work.seed,
        "shuffle_dataset": False,
    }


def build_trainer(work: Work, callbacks: list[TrainerCallback]) -> Any:
    """The trainer of the work's algorithm."""
    tokenizer = AutoTokenizer.from_pretrained(work.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    texts = make_prompts(tokenizer, work.prompts * (work.steps + 1), work.prompt_tokens)
    rows = [{"prompt": [{"role": "user", "content": text}], "privileged_context": CRITIQUE} for text in texts]
    options = build_options(work, tempfile.mkdtemp(prefix="versus-trl-"))
    shared = {
        "model": work.model,
        "reward_funcs": reward_completions,
        "train_dataset": Dataset.from_list(rows),
        "processing_class": tokenizer,
        "peft_config": LoraConfig(
            task_type="CAUSAL_LM", r=work.rank, lora_alpha=2 * work.rank, lora_dropout=0.0, target_modules="all-linear"
        ),
        "callbacks": callbacks,
    }
    if work.algorithm == "grpo":
        return GRPOTrainer(args=GRPOConfig(**options), **shared)
    distillation = {
        "distillation_weight": 0.5,
        "distillation_mode": "topk_logits",
        "distillation_topk": work.k,
        "distillation_add_tail": True,
        "distillation_alpha": 1.0,
        "teacher_model_kind": "ema",
        "teacher_update_rate": 0.05,
        "use_successful_as_teacher": False,
        "include_environment_feedback": True,
        "reprompt_template": "{prompt}{solution}{feedback}",
        "feedback_template": "\n\n" + HINT.format(critique="{feedback_raw}"),
        "max_prompt_length": work.prompt_tokens,
    }
    return SDPOTrainer(args=SDPOConfig(**options, **distillation), **shared)


class Turns(TrainerCallback):
    """Makes a step when the driver asks for one."""

    def __init__(self, stepper: Stepper) -> None:
        self.stepper = stepper

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.stepper.wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.stepper.report()
        if not self.stepper.wait():
            control.should_training_stop = True


def run(work: Work) -> None:
    """Trains, a step for each line that is read."""
    clock = Clock(work.device)
    stepper = Stepper(clock)
    trainer = build_trainer(work, [Turns(stepper)])
    clock.wrap(trainer, "_generate", "rollout")
    clock.wrap(trainer, "compute_loss", "forward")
    clock.wrap(trainer.accelerator, "backward", "backward")
    name = "_generate_and_score_completions" if work.algorithm == "grpo" else "_prepare_training_batch"
    prepare = getattr(trainer, name)

    def count(inputs: Any) -> Any:
        found = prepare(inputs)
        stepper.counts["answers"] += len(found["completion_mask"])
        stepper.counts["answered"] += int(found["completion_mask"].sum())
        stepper.counts["read"] += int(found["completion_mask"].sum() + found["prompt_mask"].sum())
        return found

    setattr(trainer, name, count)
    trainer.train()
    stepper.finish()
