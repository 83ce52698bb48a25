"""The training step: one batch is one optimiser step, cut into micro-batches, on any number of ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.lr_scheduler import LRScheduler

from fdt import __version__
from fdt.data.batch import Batch, share_taught_prompts
from fdt.data.microbatch import align, select_weighted_rows, split_batch
from fdt.data.packing import lay_out_batch
from fdt.distributed import reduce_sum
from fdt.errors import explain_plug_errors
from fdt.metrics.nonfinite import has_finite_loss, report_nonfinite
from fdt.metrics.step import BAR, StepMetrics
from fdt.policy.annotator_trust import AnnotatorTrust
from fdt.policy.fsdp import keep_root_gathered
from fdt.policy.gradients import TermGradients
from fdt.policy.loading.devices import build_policy, find_longest_forward
from fdt.policy.loading.versions import check_saved_policy, select_saved_weights
from fdt.policy.log_probs import add_old_log_probs, uses_ratio
from fdt.policy.lora import LoRA
from fdt.policy.optimizers import ScoreShare, SignalAdamW, build_adamw, build_schedule, compute_norm, count_steps
from fdt.policy.policy import Policy
from fdt.policy.products.fused_log_probs import use_log_prob_kernel
from fdt.policy.teachers import Frozen, ReferencePolicy, Teacher, WeightCopyTeacher, split_by_hint
from objectives import Loss, Objective, Rollouts, Schedule, Term, TokenLogProbs, default_terms


class Learner(LightningModule):
    """Trains a causal LM on scores (policy gradient) and on critiques (distillation from a teacher that read them)."""

    policy: Policy
    """What is trained; absent before `configure_model`."""
    start: Teacher
    """The policy at its start; absent before `configure_model`, and where nothing is trained."""
    automatic_optimization = False
    strict_loading = False
    nonfinite_steps = 0
    _loss_is_finite = True

    def __init__(
        self,
        terms: dict[str, Term] | None = None,
        coefficients: dict[str, float | Schedule] | None = None,
        base: str = "smollm2-135m-instruct",
        lora: LoRA | None = LoRA(),
        dtype: str = "auto",
        gradient_checkpointing: bool | Literal["auto"] = "auto",
        teacher: Teacher | None = None,
        optimizer: Callable[[Iterable], torch.optim.Optimizer] = build_adamw,
        warmup_steps: int = 0,
        lr_scheduler_type: Literal["constant", "linear", "held_linear"] = "constant",
        max_grad_norm: float = 1.0,
        tokens_per_microbatch: int = 4096,
        log_kl_to_init: int | bool = True,
        max_nonfinite_steps: int = 5,
        seed: int = 0,
        trust: AnnotatorTrust | None = None,
        template_variables: dict[str, Any] | None = None,
        log_prob_kernel: Literal["chunked", "liger", "cut_cross_entropy"] = "chunked",
    ) -> None:
        """
        Args:
            terms: named loss terms, whose sum is minimised; by default a policy gradient on scores, distillation from
                critiques and imitation of revisions. `docs/config.md` lists them all.
            coefficients: what a named term is multiplied by, a number or a schedule; 1 where none is given, and at 0 a
                term is not computed.
            base: model alias, local folder or hub id of an instruct model.
            lora: adapters; null trains all weights.
            dtype: auto, float32 or bfloat16: dtype of the base (auto: bfloat16 where it is fast).
            gradient_checkpointing: recompute activations in the backward pass to save memory; auto: on a card whose
                memory tokens_per_microbatch would fill.
            teacher: fdt.policy.teachers.Frozen, EMA or Live (default Frozen).
            optimizer: optimiser class and its arguments.
            warmup_steps: steps over which the learning rate rises from 0.
            lr_scheduler_type: the rate after that: constant, linear (it falls to 0 at the last step) or held_linear (it
                is held before it falls, for up to half of the steps, the longer the fewer answers have a score).
            max_grad_norm: largest gradient norm, of each term under `SignalAdamW`; larger ones are scaled down.
            tokens_per_microbatch: most tokens that one forward reads.
            log_kl_to_init: measure the KL to the starting policy (one forward) at every step, or once in so many steps.
            max_nonfinite_steps: stop after so many non-finite steps in a row; such a step changes no weight.
            seed: seed of adapters and dropout.
            trust: estimates whose critiques are right, for gates to read as score ``trust``; null: all count alike.
            template_variables: variables of the model's chat template, such as {enable_thinking: false}; null: none.
            log_prob_kernel: what computes log-probs where no term reads more: fused kernels, for a card, or chunked.
        """
        super().__init__()
        self.objective = Objective(default_terms() if terms is None else terms, coefficients or {})
        self.base, self.lora = base, lora
        self.dtype_name = dtype
        self.gradient_checkpointing = gradient_checkpointing
        self.make_optimizer = optimizer
        self.warmup_steps, self.lr_scheduler_type = warmup_steps, lr_scheduler_type
        self.score_share = ScoreShare(is_read=lr_scheduler_type == "held_linear")
        self.max_grad_norm = max_grad_norm
        self.tokens_per_microbatch = tokens_per_microbatch
        self.kl_interval = int(log_kl_to_init)
        self.logged: dict[str, float] = {}
        self.max_nonfinite_steps = max_nonfinite_steps
        self.seed = seed
        self.trust = trust
        self.template_variables = template_variables
        self.log_prob_kernel = log_prob_kernel
        self.teacher = teacher if teacher is not None else Frozen()
        self.reference: ReferencePolicy | None = None

    def configure_model(self) -> None:
        """Builds the policy, and for training its teachers; called before weights are restored."""
        if not hasattr(self, "policy"):
            settings = (self.dtype_name, self.gradient_checkpointing, self.seed, self.template_variables)
            loaded = (self.trainer.strategy, self.device_mesh, self.base, self.lora, *settings)
            self.policy = build_policy(*loaded, find_longest_forward(self.trainer, self.tokens_per_microbatch))
            self.policy.train()
        if self.trainer.state.fn == TrainerFn.FITTING and not hasattr(self, "start"):
            use_log_prob_kernel(self.policy, self.log_prob_kernel, self.trainer.strategy, self.objective)
            self.start = self.teacher if isinstance(self.teacher, Frozen) else Frozen()
            if self.start is not self.teacher:
                self.teacher.attach(self.policy)
            if self._reads_start() or (self.start is self.teacher and "teacher" in self.objective.needs):
                self.start.attach(self.policy)
            if self.reference is not None:
                self.reference.attach(self.policy)

    def _reads_start(self) -> bool:
        """Whether anything asks for the policy at its start: of trained weights it is one more copy."""
        source = getattr(getattr(self.trainer, "datamodule", None), "source", None)
        return self.kl_interval > 0 or self._anchors_at_start() or source is None or not source.on_policy

    def _anchors_at_start(self) -> bool:
        return "reference" in self.objective.needs and self.reference is None

    def configure_optimizers(self) -> Any:
        """The optimiser of what trains, and its learning rate over the steps."""
        optimizer = self.make_optimizer(self.policy.get_trainable_parameters())
        total = count_steps(self.trainer) if self.lr_scheduler_type != "constant" else math.inf
        return [optimizer], [build_schedule(optimizer, self.warmup_steps, total, self.score_share)]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """One optimiser step; callbacks get its metrics, its weighted batch, and whether the gradient was finite."""
        began = time.perf_counter()
        torch.manual_seed(self.seed * 1_000_003 + self.global_step * 1009 + self.global_rank)
        with explain_plug_errors():
            batch = self.weigh(batch)
        self.score_share.add(batch.rollouts, self.device, stands_in=not batch.episodes)
        terms = self.objective.active
        packs = self.policy.packs
        parts = split_batch(select_weighted_rows(batch, terms), self.tokens_per_microbatch, packs)
        parts = align(parts, self.device)
        metrics = StepMetrics(batch, terms)
        apart = self._separate_gradients(batch)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1 and apart is None
            with nullcontext() if last else self._skip_gradient_sync():
                with explain_plug_errors():
                    part = lay_out_batch(part, packs).to(self.device)
                    loss, student, others, rollouts = self.compute_loss(part)
                metrics.add(part, loss, student, others, rollouts)
                if self.trust is not None:
                    self.trust.collect(part, student, others)
                self._backward(loss, apart)
            del loss, student, others, rollouts  # a teacher's own head would stay beside the next one's
        self._loss_is_finite = has_finite_loss(metrics, self.device)
        norm, finite = self._step() if apart is None else self._step_apart(apart, metrics)
        if self.trust is not None:
            metrics.extra |= self.trust.update(finite)
        self._log(metrics, norm, time.perf_counter() - began)
        self._count_nonfinite(finite, metrics)
        return {"metrics": metrics, "batch": batch, "finite": finite}

    def _log(self, metrics: StepMetrics, norm: float, seconds: float) -> None:
        values = metrics.finish(self.device, self.trainer.world_size, seconds)
        values |= {"optim/grad_norm": norm, "optim/lr": self._optimizer.param_groups[0]["lr"]}
        metrics.values = {f"train/{name}": value for name, value in values.items()}
        self.logged = dict.fromkeys(self.logged | metrics.values, math.nan)  # Lightning would repeat the last value
        self.log_dict(self.logged | metrics.values, logger=True, on_step=True, batch_size=1)
        bar = {short: values[name] for name, short in BAR.items() if name in values}
        self.log_dict(bar, prog_bar=True, logger=False, batch_size=1)

    def weigh(self, batch: Batch) -> Batch:
        """Each term's weights, and its denominator over the whole step and all ranks."""
        batch = batch if self.trust is None else self.trust.add_scores(batch)
        batch = add_old_log_probs(batch, self.objective.reads, self.policy, self.start, self.tokens_per_microbatch)
        rollouts = replace(share_taught_prompts(batch), update=self.global_step)
        rollouts = replace(rollouts, weights=self.objective.weigh(rollouts))
        totals = self.objective.compute_totals(rollouts).items()
        shares = {name: torch.tensor(share, dtype=torch.float64) for name, share in totals}
        return replace(batch, rollouts=replace(rollouts, totals=reduce_sum(shares, self.device)))

    def compute_loss(self, part: Batch) -> tuple[Loss, TokenLogProbs, dict[str, TokenLogProbs], Rollouts]:
        """The loss of one micro-batch, from the log-probs under the policy and the models it is compared with."""
        others: dict[str, TokenLogProbs] = {}
        rollouts = part.rollouts
        if part.teacher is not None and "teacher" in self.objective.needs:
            others |= split_by_hint(self.teacher(self.policy, part.teacher), part, self.objective.needs)
        replayed = part.behaviour == "start" and any(map(uses_ratio, self.objective.active.values()))
        if replayed or self._anchors_at_start() or (self.kl_interval and not self.global_step % self.kl_interval):
            others["start"] = self.start(self.policy, part.student)
        if "reference" in self.objective.needs:
            others["reference"] = self.reference(self.policy, part.student) if self.reference else others["start"]
        if replayed and rollouts.old_log_probs is None:
            rollouts = replace(rollouts, old_log_probs=others["start"].log_probs.detach())
        student = self.policy.compute_log_probs(part.student)
        return self.objective(student, others, rollouts), student, others, rollouts

    @property
    def _optimizer(self) -> LightningOptimizer:
        return cast(LightningOptimizer, self.optimizers())

    def _skip_gradient_sync(self) -> AbstractContextManager[None]:
        # DDP sums gradients over ranks once, in the last backward; FSDP2 reduces each, which adds up to the same.
        return getattr(self.trainer.strategy, "block_backward_sync", nullcontext)()

    def _separate_gradients(self, batch: Batch) -> TermGradients | None:
        """Where the optimiser keeps moments for each term, what collects their gradients."""
        if not isinstance(self._optimizer.optimizer, SignalAdamW):
            return None
        active, totals = self.objective.active, batch.rollouts.totals
        present = [name for name in active if totals[name] and self.objective.get_coefficient(name, self.global_step)]
        absent = [name for name in active if name not in present]
        groups = self._optimizer.param_groups  # the policy's own may be whole just now, where a forward gathered them
        return TermGradients([p for group in groups for p in group["params"]], present, absent)

    def _backward(self, loss: Loss, apart: TermGradients | None) -> None:
        world = self.trainer.world_size
        if apart is None:
            self.manual_backward(loss.value * world)
            return
        with keep_root_gathered(self.policy):
            apart.add({name: part.value * world for name, part in loss.parts.items()}, self.manual_backward)

    def _step_apart(self, apart: TermGradients, metrics: StepMetrics) -> tuple[float, bool]:
        """The step of an optimiser that keeps moments for each term; one non-finite gradient stops all of it."""
        apart.average_over_ranks()
        norms = apart.compute_norms()
        metrics.extra |= {f"signals/grad_norm/{name}": norm for name, norm in norms.items()}
        metrics.extra |= {f"signals/cosine/{a}_{b}": value for a, b, value in apart.compute_cosines(norms)}
        weights = {name: self.objective.get_coefficient(name, self.global_step) for name in self.objective.active}
        given: dict[str, Any] = {"weights": weights, "norms": norms, "max_norm": self.max_grad_norm}
        step = partial(self._optimizer.step, gradients=apart.as_dict(), **given)
        norm = math.hypot(*norms.values())
        return norm, self._apply_step(math.isfinite(norm), step)

    def _step(self) -> tuple[float, bool]:
        parameters = self.policy.get_trainable_parameters()
        norm = compute_norm([p.grad for p in parameters if p.grad is not None])
        if finite := bool(torch.isfinite(norm)):
            torch.nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        return float(norm), self._apply_step(finite, self._optimizer.step)

    def _apply_step(self, finite: bool, step: Callable[[], Any]) -> bool:
        """Takes the step where its loss and its gradient are finite on all ranks, which agree on that."""
        finite = finite and self._loss_is_finite
        if finite:
            step()
            scheduler = self.lr_schedulers()
            assert isinstance(scheduler, LRScheduler)
            scheduler.step()
            self.teacher.update(self.policy)
        self._optimizer.zero_grad()
        return finite

    def _count_nonfinite(self, finite: bool, metrics: StepMetrics) -> None:
        self.nonfinite_steps = 0 if finite else self.nonfinite_steps + 1
        if not finite:
            report_nonfinite(metrics, self.global_step, self.nonfinite_steps, self.max_nonfinite_steps)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another policy or version."""
        check_saved_policy(checkpoint, self.policy.describe(), resumes=self.trainer.training)
        if self.trust is not None:
            self.trust.counts = checkpoint.get("trust", {})
        self.score_share.load(checkpoint)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the trained weights, an EMA teacher and a reference that is reset; of the frozen base, its name."""
        moving = isinstance(self.teacher, WeightCopyTeacher) and not isinstance(self.teacher, Frozen)
        checkpoint["state_dict"] = select_saved_weights(checkpoint["state_dict"], self.policy, moving)
        checkpoint["fdt"] = {**self.policy.describe(), "version": __version__}
        if self.trust is not None:
            checkpoint["trust"] = self.trust.counts
        self.score_share.save(checkpoint)

    def validation_step(self, records: list[dict[str, Any]], batch_idx: int) -> Any:
        """The loader's records are the measurement; callbacks collect them."""
        return records

    test_step = predict_step = validation_step
