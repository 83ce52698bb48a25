"""The data module: the feedback file or environment, the source of answers, the grader and the hints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import chain
from typing import Any

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_info

from fdt.data.batch import Batch
from fdt.data.collate import Collator
from fdt.data.markers import TokenMarker
from fdt.data.microbatch import StepDataModule
from fdt.data.splits import DataSplits, load_from_file, locate
from fdt.engines import Engine, HuggingFace
from fdt.environments import Environment, SingleTurn
from fdt.errors import UserError
from fdt.evaluation.base import Answers, Evaluation, Record
from fdt.evaluation.choices import check_grader, choose_evaluation
from fdt.evaluation.loader import EvaluationLoader
from fdt.evaluation.returns import measure_tasks
from fdt.policy.policy import find_autocast_dtype
from fdt.rollout import checks
from fdt.rollout.actor import Actor
from fdt.rollout.choices import choose_credit
from fdt.rollout.curricula.recorded import Recorded
from fdt.rollout.limits import EpisodeLimits
from fdt.rollout.overlap import Prefetcher, RolloutLoader, build_prefetcher
from fdt.rollout.place import RolloutPosition
from fdt.rollout.sources import Replay, Source
from fdt.rollout.stored import load_splits
from fdt.rollout.tasks import load_from_environment
from feedback.graders import FunctionGrader, Grader, as_grader
from feedback.hints import CritiqueHint, Hint, annotate_group, shuffle_critiques
from feedback.readers import Reader, read_tasks
from feedback.readers.garbage import pause_collection
from feedback.rewriter import Rewriter
from feedback.skills import SkillBank, Skills
from feedback.types import Episode, Task, collect_tasks
from objectives import Credit


class Experience(StepDataModule):
    """Reads feedback and makes the batches that train and the held-out records that measure."""

    records = 0
    _actor: Actor | None = None
    _ahead: Prefetcher | None = None
    _pending: Sequence[dict[str, str]] = ()

    def __init__(
        self,
        file: str | None = None,
        heldout: float | str = 0.1,
        test_file: str | None = None,
        format: str | Reader = "auto",
        scale: list[float] | None = None,
        map: dict[str, str] | None = None,
        source: Source = Replay(),
        credit: Credit | None = None,
        grader: FunctionGrader | Grader | None = None,
        hint: Hint | None = CritiqueHint(),
        skills: Skills | None = None,
        rewriter: Rewriter | None = None,
        marker: TokenMarker | None = None,
        engine: Engine = HuggingFace(),
        environment: Environment | None = None,
        limits: EpisodeLimits = EpisodeLimits(),
        evaluation: Evaluation | None = None,
        evaluation_batch: int = 64,
        evaluation_limit: int | None = None,
        max_tokens: int = 2048,
        shuffle_critiques: bool = False,
        seed: int = 0,
    ) -> None:
        """
        Args:
            file: the feedback file: a path, or a bundled sample's name. Null where an environment samples the tasks.
            heldout: a file of held-out prompts, or the share of prompts of ``file`` kept for measuring.
            test_file: prompts for ``fdt test`` (default: the held-out ones, or the environment's own for testing).
            format: auto (by the columns of the first record), one of shepherd, helpsteer2, helpsteer2-preference,
                helpsteer3-feedback, helpsteer3-edit, helpsteer3-quality, helpsteer3-preference, ultrafeedback,
                ultrafeedback-binarized, ultrafeedback-critique, prometheus, distilabel, argilla, label-studio,
                label-studio-min, oasst-trees, oasst-messages, openclaw, swe-agent, mini-swe-agent, open-webui,
                openai-preference, verifiers, trl-preference, trl-stepwise, trl-completion, trl-privileged, log,
                episodes, prompts, rows, or your own reader by its dotted path.
            scale: lowest and highest possible score in the file, such as [1, 5]; mapped to [0, 1].
            map: for fields that the files have under other names, their columns, such as {prompt: Question, response:
                Answer, score: Rating}; {meta.rating: rating} keeps a column that is no feedback as a note.
            source: where answers come from: fdt.rollout.sources.Replay or fdt.rollout.sources.OnPolicy.
            credit: how scores become advantages; null chooses by how many scored answers a prompt has, and says so.
            grader: judges fresh answers (on-policy, validate, test, predict): a grader, or the dotted path of a
                function of an episode that returns a score in [0, 1], or a score and a critique.
            hint: what only the teacher reads; null switches the teacher off.
            skills: what earlier attempts taught, for the policy (feedback.skills.Shown) or the teacher
                (feedback.skills.Whispered) to read; null: none.
            rewriter: corrects answers that were criticised; null rewrites nothing.
            marker: sets a further mask on tokens, such as planning; null sets none.
            engine: generates answers.
            environment: what episodes are played against, over several turns; null: an episode is one answer.
            limits: how many tasks an environment samples, and the limits of its episodes.
            evaluation: the held-out measure, as fdt.evaluation.base.Answers or fdt.evaluation.base.Likelihood; null:
                answers where something scores them, else likelihood of references, corrections or well rated answers.
            evaluation_batch: held-out prompts measured together.
            evaluation_limit: measure only the first so many held-out prompts (null: all).
            max_tokens: longer rows are dropped and counted, those longer than the model has positions as well.
            shuffle_critiques: control arm: every critique goes to another row.
            seed: seed of prompt order, splits and samples.
        """
        super().__init__()
        self.file, self.heldout, self.test_file = file, heldout, test_file
        self.format, self.scale, self.map = format, scale, map or {}
        self.source, self._credit = source, credit
        self.grader = None if grader is None else as_grader(grader)
        self.hint, self.skills, self.rewriter, self.marker = hint, skills, rewriter, marker
        self.engine, self.environment, self.limits = engine, environment, limits
        self._evaluation, self.evaluation_batch, self.evaluation_limit = evaluation, evaluation_batch, evaluation_limit
        self.max_tokens, self.shuffle_critiques, self.seed = max_tokens, shuffle_critiques, seed
        self.episodes: Sequence[Episode] = []
        self._check_arguments()

    def _check_arguments(self) -> None:
        if self.scale is not None and len(self.scale) != 2:
            raise UserError("scale", got=self.scale, expected="two numbers, lowest and highest", key="data.scale")
        if not self.source.takes_share and not isinstance(self.heldout, str):
            raise UserError("a share", got=self.heldout, expected="a file, since data.file grows", key="data.heldout")
        if self.file is None and (self.environment is None or isinstance(self.source, Replay)):
            expected = "a feedback file, or data.environment with data.source OnPolicy"
            raise UserError("no file", expected=expected, key="data.file")

    @pause_collection()
    def setup(self, stage: str) -> None:
        """Reads and splits the file, or samples the environment's tasks.

        Raises:
            UserError: where fresh answers have no grader, nothing can be measured, or every advantage would be 0.
        """
        if self.episodes:
            return
        judged = self.grader is not None or (self.environment is not None and self.environment.scores_episodes)
        if stage != "predict":  # before a long file is read
            check_grader(self._evaluation, judged, self.source.on_policy)
        found = self._load_data()
        self.file = found.source
        self.records = found.record_count
        self.test_tasks = found.test
        self.episodes = found.episodes
        self.heldout_tasks = found.heldout
        self.heldout_records = self.records - len(self.episodes)
        if self.shuffle_critiques:
            self.episodes = shuffle_critiques(list(self.episodes), self.seed)
        if self.hint is not None and self.hint.reads_group:
            self.episodes = annotate_group(self.hint, list(self.episodes))
        if self._credit is None:
            self._credit, reason = choose_credit(self.source, self.episodes)
            rank_zero_info(f"data.credit: objectives.{type(self.credit).__name__}, as {reason}")
        checks.check_credit(self.credit, self.source, self.episodes)
        checks.check_curriculum(self.source, self.episodes)
        checks.check_skills(self.skills, self.source, self.hint, chain(self.episodes, self.heldout_tasks))
        if self.skills is not None:
            self.skills.withheld = frozenset(task.key for task in self.heldout_tasks)
        elif stage == "fit" and self.trainer is not None and self.rewriter is None:
            objective = get_learner(self.trainer).objective
            checks.check_signals(self.source, objective, self.credit, self.hint, self.episodes)
        if stage != "predict":
            self._evaluation, self.heldout_tasks = choose_evaluation(self._evaluation, judged, found)
            if found.targets:
                self.test_tasks = partial(list, self.heldout_tasks)

    @property
    def credit(self) -> Credit:
        """How scores become advantages; chosen in `setup` where the config names none."""
        assert self._credit is not None
        return self._credit

    @property
    def evaluation(self) -> Evaluation:
        """The held-out measure; chosen in `setup` where the config names none."""
        assert self._evaluation is not None
        return self._evaluation

    def _load_data(self) -> DataSplits:
        if self.file is not None:
            replayed = not self.source.on_policy and self.source.takes_share and not self.shuffle_critiques
            load = load_splits if replayed else load_from_file  # the others need all rows at once
            return load(self.file, self.format, self.scale, self.heldout, self.seed, self.map)
        assert self.environment is not None
        return load_from_environment(self.environment, self.limits, self.seed)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch; counted once, since distinct prompts take a pass over the file."""
        return self.source.count_rollouts(self.episodes) * self.source.steps_per_rollout

    @property
    def actor(self) -> Actor:
        """Made on first use: the one place where experience uses the current weights."""
        if self._actor is None:
            trainer = get_trainer(self)
            learner = get_learner(trainer)
            policy = learner.policy
            most = checks.limit_tokens(self.max_tokens, policy.positions, policy.base)
            collator = Collator(policy.tokenizer, self.hint, most, self.marker)
            context = trainer.precision_plugin.forward_context
            policy.autocast_dtype = find_autocast_dtype(context, policy.device)
            play = partial(Actor, environment=self.environment or SingleTurn(), limits=self.limits, skills=self.skills)
            self._actor = play(
                policy, self.engine, collator, self.grader, self.rewriter, precision=context, trust=learner.trust
            )
        return self._actor

    def train_dataloader(self) -> RolloutLoader:
        """The batches of an epoch, made while they are read.

        Raises:
            UserError: where engine, source and objective do not fit, a term reads a mask that nothing sets, the chat
                template refuses a row, or all rows are too long.
        """
        objective = get_learner(get_trainer(self)).objective
        self._check_rows(collect_tasks(self.episodes) if self.source.on_policy else self.episodes, self.file)
        if self.environment is None or not self.source.on_policy:
            checks.check_lengths(self.episodes, self.actor.collator, self.source.on_policy, self.file)
        checks.check_engine(self.engine, self.source, objective)
        checks.check_overlap(self.engine, self.source, objective, self.rewriter)
        checks.check_masks(objective, self.marker)
        recorded = Recorded(self.episodes, self.credit)
        steps = (self.steps_per_epoch, self.source.steps_per_rollout, self.seed)
        return RolloutLoader(get_trainer(self), *steps, partial(self._make_batches, recorded))

    def val_dataloader(self) -> EvaluationLoader:
        """The held-out tasks."""
        self._check_rows(self.heldout_tasks, self.heldout if isinstance(self.heldout, str) else self.file)
        return self._build_evaluation_loader(self.heldout_tasks)

    def test_dataloader(self, evaluation: Evaluation | None = None) -> EvaluationLoader:
        """The tasks of ``test_file``, else the held-out ones or the environment's own for testing."""
        tasks = read_tasks(locate(self.test_file), self.map) if self.test_file else self.test_tasks()
        self._check_rows(tasks, self.test_file)
        return self._build_evaluation_loader(tasks, evaluation)

    def predict_dataloader(self) -> EvaluationLoader:
        """The same tasks, answered, whatever else is measured on them."""
        return self.test_dataloader(Answers())

    def _build_evaluation_loader(self, tasks: Sequence[Task], evaluation: Evaluation | None = None) -> EvaluationLoader:
        def measure(part: list[Task]) -> Sequence[Record | None]:
            if self._ahead is not None:
                self._ahead.wait()
            self._freeze_engine()
            return measure_tasks(evaluation or self.evaluation, part, self.actor, self.source.curriculum)

        return EvaluationLoader(get_trainer(self), tasks[: self.evaluation_limit], self.evaluation_batch, measure)

    def _make_batches(self, recorded: Recorded, position: RolloutPosition) -> list[Batch]:
        """The batches of a rollout, which may have been made ahead."""
        if not self.source.max_staleness:
            if self.source.on_policy or self.rewriter is not None:
                self._freeze_engine()
            return self.source.make_batches(position, recorded, self.actor)
        if self._ahead is None:
            trainer = get_trainer(self)
            self._ahead = build_prefetcher(trainer, self.source, recorded, self.actor, position, self._pending)
        rollouts = self.steps_per_epoch // self.source.steps_per_rollout
        return self._ahead.make_batches(position.get_number(rollouts))

    def _freeze_engine(self) -> None:
        """Hands the present weights to an engine that holds its own; all ranks together."""
        self.actor.engine = self.engine.freeze(self.actor.policy) or self.engine

    def state_dict(self) -> dict[str, Any]:
        """What was made ahead and is still to be learned from, and the bank of skills."""
        ahead = {} if self._ahead is None else {"pending": self._ahead.pack_state()}
        return ahead if self.skills is None else ahead | {"skills": self.skills.bank.to_json().decode()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._pending = state_dict.get("pending", [])
        if self.skills is not None and "skills" in state_dict:
            self.skills.bank = SkillBank.from_json(state_dict["skills"].encode(), "checkpoint")

    def _check_rows(self, rows: Sequence[Episode | Task], file: str | None) -> None:
        checks.check_rows(rows, self.environment, get_learner(get_trainer(self)).policy.tokenizer, file)


def get_trainer(data: Experience) -> Trainer:
    """The trainer that reads this data module; Lightning sets it before any loader is made."""
    assert data.trainer is not None
    return data.trainer


def get_learner(trainer: Trainer) -> Any:
    """The module that trains, with its ``policy`` and ``objective``."""
    return trainer.lightning_module
