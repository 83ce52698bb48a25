"""Combinations of plugs that would train on nothing, or on the wrong thing, are refused before the first step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from fdt.data.chat.calls import get_tools
from fdt.data.chat.conversations import check_conversations, check_messages_shown, mark_messages
from fdt.data.collate import Collator
from fdt.data.markers import RESERVED_MASKS, TokenMarker
from fdt.data.tokenization import tokenize_prompt
from fdt.engines import Engine
from fdt.environments import Environment, EnvironmentFault
from fdt.environments.returns import start_session
from fdt.errors import UserError
from fdt.rollout.curricula.base import SamplingSettings
from fdt.rollout.curricula.recorded import Recorded, number_tasks
from fdt.rollout.sources import OnPolicy, Replay, Source
from fdt.rollout.stored.rows import StoredEpisodes, StoredRows
from feedback.hints import Hint, run_hint
from feedback.rewriter import Rewriter
from feedback.skills import Skills, Whispered
from feedback.types import Episode, Task, collect_tasks
from objectives import Credit, Objective

MOST_SESSIONS = 8
"""Sessions that are started to see what an environment says, before anything trains."""


def check_engine(engine: Engine, source: Source, objective: Objective) -> None:
    """
    Raises:
        UserError: where answers are sampled from another distribution than the policy's own and no gate corrects it.
    """
    if engine.off_policy_reason and source.on_policy and "engine_log_probs" not in objective.reads:
        raise UserError(
            "the policy gradient assumes samples of the policy's own distribution, and these come from "
            f"{engine.off_policy_reason}",
            key="data.engine",
            remedy="sample as the policy is, or give the policy term a gate such as objectives.TruncatedIS",
        )


def check_masks(objective: Objective, marker: TokenMarker | None) -> None:
    """
    Raises:
        UserError: where a term reads a mask that no batch has.
    """
    known = {*RESERVED_MASKS, *([] if marker is None else [marker.name])}
    for name, term in objective.active.items():
        if missing := sorted(term.masks - known):
            raise UserError(
                f"term {name!r} reads a mask that nothing sets",
                got=missing[0],
                expected=f"one of {', '.join(sorted(known))}, or the name of data.marker, such as "
                "fdt.data.markers.StrategicGrams with what `fdt grams` wrote",
                key=f"model.terms.{name}",
            )


def limit_tokens(max_tokens: int, positions: int | None, base: str) -> int:
    """Most tokens of a row: ``data.max_tokens``, or the positions that the model has where they are fewer, with a
    warning."""
    if positions is None or positions >= max_tokens:
        return max_tokens
    rank_zero_warn(
        f"data.max_tokens {max_tokens} is more than {base!r} has positions for: rows longer than {positions} tokens "
        "are dropped and counted"
    )
    return positions


def check_credit(credit: Credit, source: Source, episodes: Sequence[Episode]) -> None:
    """
    Raises:
        UserError: where no group can give this credit an advantage: recorded groups of one, or one answer a prompt.
    """
    if isinstance(source, Replay) and source.behaviour == "drop":
        return
    task = number_tasks(episodes)
    if isinstance(source, OnPolicy):
        task = torch.arange(len(task.unique())).repeat_interleave(source.smallest_group)
    try:
        credit.check(task)
    except ValueError as fault:
        raise UserError(str(fault), key="data.credit") from fault


def check_curriculum(source: Source, episodes: Sequence[Episode]) -> None:
    """
    Raises:
        UserError: where the prompts cannot be put into the curriculum's order, or it goes by scores that are not there
            when it chooses.
    """
    curriculum = source.curriculum
    if curriculum is None:
        return
    if curriculum.reads_scores and (source.max_staleness or not source.on_policy):
        raise UserError(
            f"{type(curriculum).__name__} chooses by how fresh answers scored",
            got=f"max_staleness {source.max_staleness}" if source.on_policy else type(source).__name__,
            expected="fdt.rollout.sources.OnPolicy with max_staleness 0",
            key="data.source.curriculum",
        )
    if not source.on_policy and any(own != SamplingSettings() for own in curriculum.list_sampling()):
        raise UserError(
            "a stage says how its prompts are answered, and recorded answers are there already",
            got=type(source).__name__,
            expected="fdt.rollout.sources.OnPolicy, or stages without num_generations and max_new_tokens",
            key="data.source.curriculum",
        )
    curriculum.check(collect_tasks(list(episodes)))


def check_rows(
    rows: Sequence[Episode | Task], environment: Environment | None, tokenizer: Any, file: str | None
) -> None:
    """What the policy will read of recorded episodes or of tasks is rendered before anything trains.

    Raises:
        UserError: where the chat template refuses a conversation or leaves something of it out.
    """
    tasks = [] if environment is None else [row for row in rows if isinstance(row, Task)]
    if environment is None or not tasks:
        check_conversations(rows, tokenizer, file, rows.kinds if isinstance(rows, StoredRows) else None)
    else:  # its sessions say what the policy reads
        check_sessions(environment, tasks, tokenizer, file)


def check_sessions(environment: Environment, tasks: Sequence[Task], tokenizer: Any, file: str | None) -> None:
    """Starts one session for each kind of task, as roles in equal order are, and has its prompt rendered.

    Raises:
        UserError: for the first whose prompt the chat template refuses or of which it leaves something out.
    """
    kinds = {json.dumps([mark_messages(task.messages), bool(get_tools(task))]): task for task in reversed(tasks)}
    for task in list(kinds.values())[-MOST_SESSIONS:][::-1]:
        try:
            session = start_session(environment, task, 0)
        except (EnvironmentFault, OSError):  # told, or tried again, when the task is played
            continue
        try:
            check_messages_shown(session.messages, bool(get_tools(task)), tokenizer, task.key, file)
        finally:
            session.close()


def check_lengths(episodes: Sequence[Episode], collator: Collator, on_policy: bool, file: str | None) -> None:
    """
    Args:
        episodes: recorded ones, or those of which the prompts are answered.
        collator: has the limit of a row.
        on_policy: whether the prompts alone are read, and need room for an answer.
        file: where they are from.

    Raises:
        UserError: where every row is longer than the limit, so that nothing would train.
    """
    lengths: list[int] = []
    for episode in episodes:
        if on_policy:
            found = [len(tokenize_prompt(episode.task.messages, collator.tokenizer, get_tools(episode.task))) + 1]
        else:
            found = [len(row.ids) for row in collator.tokenize_episode(episode) if row.turns]
        if any(length <= collator.max_tokens for length in found):
            return
        lengths += found
    raise UserError(
        "every row is too long, so that nothing would train",
        got=f"{len(episodes)} rows, the shortest of {min(lengths, default=0)} tokens",
        expected=f"at most {collator.max_tokens} tokens, prompt and answer together",
        key="data.max_tokens",
        path=file,
        remedy="set data.max_tokens higher where the model has the positions, or shorten the rows",
    )


def check_signals(
    source: Source, objective: Objective, credit: Credit, hint: Hint | None, episodes: Sequence[Episode]
) -> None:
    """
    Raises:
        UserError: where recorded answers alone teach, and no row of the file has anything that teaches: an answer with
            a critique that the hint tells the teacher, a revision, or an advantage other than 0.
    """
    own = any(not type(term).__module__.startswith("objectives.") for term in objective.active.values())
    if not isinstance(source, Replay) or own:  # somebody's own term may learn from an answer alone
        return
    if not any(episode.policy_turns for episode in episodes):
        raise UserError(
            "nothing to replay",
            got="prompts without answers",
            expected="recorded answers, or data.source OnPolicy, which answers them",
            key="data.source",
        )
    recorded = Recorded(episodes, credit)
    scored = source.behaviour == "start"
    taught = scored and isinstance(episodes, StoredEpisodes) and bool(recorded.advantages.any())  # needs no row
    taught = taught or any(e.revision is not None or (hint and run_hint(hint, e)) for e in episodes)
    if not taught and not (scored and recorded.advantages.any()):
        given = sum(not math.isnan(episode.score) for episode in episodes)
        raise UserError(
            "no row of the file teaches anything",
            got=f"{len(episodes)} rows, {given} with a score, none with a critique or revision"
            + (", and every advantage is 0" if given else ""),
            expected="critiques, revisions, or scores that differ within what data.credit compares",
            key="data.file",
            remedy="`fdt data check` says what the file holds; data.map names columns under other names",
        )


def check_skills(skills: Skills | None, source: Source, hint: Hint | None, rows: Iterable[Episode | Task]) -> None:
    """
    Raises:
        UserError: where nobody would read the skills, a recorded answer would get a prompt that it was not given to, or
            a row does not say what category it belongs to.
    """
    told = hint is not None and hint.reads_skills
    if told and not isinstance(skills, Whispered):
        raise UserError(
            "the hint names {skills}, and none are whispered",
            got=None if skills is None else type(skills).__name__,
            expected="feedback.skills.Whispered, or a hint without {skills}",
            key="data.skills",
        )
    if isinstance(skills, Whispered) and not told:
        raise UserError(
            "nobody reads the skills that are whispered",
            got=None if hint is None else type(hint).__name__,
            expected="feedback.hints.SkillHint, or another hint whose template names {skills}",
            key="data.hint",
        )
    if skills is not None and skills.shown and not source.on_policy:
        raise UserError(
            "recorded answers were given to prompts without skills",
            got=type(skills).__name__,
            expected="data.source OnPolicy, or feedback.skills.Whispered",
            key="data.skills",
        )
    if skills is not None:
        for row in rows:
            skills.get_category(row if isinstance(row, Task) else row.task)


def check_overlap(engine: Engine, source: Source, objective: Objective, rewriter: Rewriter | None) -> None:
    """
    Raises:
        UserError: where rollouts that are made ahead would need the weights that train, or a term cannot learn from
            answers of earlier weights.
    """
    if not source.max_staleness or not isinstance(source, OnPolicy):
        return
    refills = source.dynamic is not None and source.dynamic.max_refills > 0
    reads_live = engine.reads_live_weights
    remedy = "0, or an engine with weights of its own: fdt.engines.VLLMServer"
    gated = "engine_log_probs" in objective.reads
    for wrong, got in (
        (rewriter is not None and reads_live, f"data.rewriter, whose drafts {type(engine).__name__} makes"),
        (refills and reads_live, f"data.source.dynamic.max_refills, which {type(engine).__name__} answers"),
        ("top_k_ids" in objective.reads, "TopKTeacherAdvantage, which needs the distribution that was sampled from"),
        (gated and source.memory is not None, "data.source.memory beside a mismatch gate"),
        (
            source.max_staleness > 1 and not engine.keeps_versions,
            "more than one rollout ahead, and an engine that holds the latest weights alone",
        ),
    ):
        if wrong:
            raise UserError(
                "rollouts that are made ahead",
                got=got,
                expected=remedy,
                key="data.source.max_staleness",
            )
