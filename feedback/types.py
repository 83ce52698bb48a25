"""The records of the text side: a task, the turns of an episode, and the feedback it received.

All are frozen records of plain values. They are built in C (`msgspec.Struct`), a tenth of the time of a frozen
dataclass, since a file holds millions of rows; `dataclasses.replace`, `fields` and `asdict` work on them all the same.
What is encoded of them leaves out fields at their defaults.
A score lies in [0, 1]; NaN means absent and never counts as 0.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import make_dataclass, replace
from json.encoder import encode_basestring_ascii as _quote_json
from typing import Any, TypeVar

from msgspec import Struct, field

Record = TypeVar("Record", bound=Struct)
Message = dict[str, Any]
"""One chat message: `{"role": ..., "content": ...}`; `tool_calls` and `tool_call_id` where tools were used."""

DONE = "done"
TURN_LIMIT = "turn limit"
OUT_OF_CONTEXT = "out of context"
"""How an episode ends (`Episode.end_reason`)."""
STYLE_SCORES = frozenset({"confidence", "format", "complexity", "verbosity"})
"""Names of scores that say how an answer is put, not how good it is: advantage estimators read them by name,
`Episode.score` does not."""


def _register_dataclass(record: type[Record]) -> type[Record]:
    """The same class, which `dataclasses` takes for one of its own."""
    fields = vars(make_dataclass(record.__name__, record.__struct_fields__))["__dataclass_fields__"]
    record.__dataclass_fields__ = fields  # type: ignore[attr-defined]  # msgspec declares no such attribute
    return record


@_register_dataclass
class Feedback(Struct, frozen=True, gc=False, omit_defaults=True):
    """One judgement of an episode or of one of its turns: a score, a critique, a correction, or several of these."""

    source: str = "human"
    """Who judged: human, llm, environment or policy."""
    annotator: str | None = None
    """Name of the person or model that judged."""
    name: str = "score"
    """What was judged, for example correct, justified, or an error type."""
    score: float = math.nan
    """Value in [0, 1]; NaN = absent."""
    text: str | None = None
    """The critique."""
    turn: int | None = None
    """Which of the episode's assistant turns it is about, from 0; None = the whole episode."""
    revision: str | None = None
    """The corrected answer."""
    scale: tuple[float, float] | None = None
    """Lowest and highest score of the scale that it was mapped from; None = it came as a number in [0, 1]."""


@_register_dataclass
class Preference(Struct, frozen=True, gc=False, omit_defaults=True):
    """One comparison of an episode with another answer to the same task."""

    other_id: str
    """Id of the other episode."""
    strength: float = 1.0
    """Share of the win that falls to this episode, in [0, 1]: 1 = far better, 0.5 = a tie, 0 = far worse."""
    text: str | None = None
    """Why."""
    annotator: str | None = None
    """Name of the person or model that compared."""


@_register_dataclass
class Task(Struct, frozen=True, omit_defaults=True):
    """What is asked: episodes with equal `key` form one group."""

    key: str
    """Name of the group."""
    messages: tuple[Message, ...]
    """The prompt the student reads."""
    reference: str | None = None
    """Gold answer, for graders and metrics."""
    hints: tuple[str, ...] = ()
    """Distinct critiques recorded for this task, in file order."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Further columns of the record."""
    rejected: str | None = None
    """A recorded answer that is worse than `reference`, set where their likelihoods are compared."""


@_register_dataclass
class Turn(Struct, frozen=True, gc=False, omit_defaults=True):
    """One message of an episode; `ids` and `log_probs` are set when the policy sampled it."""

    role: str
    """assistant, user, tool or system."""
    text: str
    """The words."""
    ids: tuple[int, ...] | None = None
    """Token ids as sampled, the end token included if it came; the truth, never re-tokenised."""
    log_probs: tuple[float, ...] | None = None
    """Behaviour log-probability (nats) of each id."""
    sampled: bool = False
    """True when this process's policy wrote it."""
    calls: tuple[dict[str, Any], ...] = ()
    """Tools that an assistant's turn calls, each `{"id", "name", "arguments"}` with the arguments as JSON text."""
    call_id: str | None = None
    """For a tool's turn: the id of the call it answers."""


@_register_dataclass
class RetrievedSkill(Struct, frozen=True, gc=False, omit_defaults=True):
    """A skill of a bank that was found to fit a task (`feedback.skills`)."""

    id: str
    """Its id in the bank."""
    text: str
    """As a prompt states it."""
    similarity: float | None = None
    """Cosine of it and the prompt, from -1 to 1; None where it is general, and so fits every task."""
    shown: bool = True
    """True: the policy read it in its prompt; False: only the teacher may."""


@_register_dataclass
class Episode(Struct, frozen=True, omit_defaults=True):
    """One attempt at a task, with all feedback on it."""

    id: str
    """Unique in its file."""
    task: Task
    """What was asked."""
    turns: tuple[Turn, ...]
    """What followed the prompt."""
    feedback: tuple[Feedback, ...] = ()
    """Every judgement it received."""
    preferences: tuple[Preference, ...] = ()
    """Every comparison with another attempt at the task."""
    finished: bool = True
    """False where the last answer was cut off, so that no end token belongs after it."""
    end_reason: str | None = None
    """How an episode that was played here ended: one of `DONE`, `TURN_LIMIT` and `OUT_OF_CONTEXT`; None = recorded."""
    sibling: str | None = None
    """A better answer of the group, for hints."""
    revision_status: str | None = None
    """What became of the rewrite: accepted, or why not; None = nobody asked for one."""
    is_rewrite: bool = False
    """True where a rewrite stands in its group as an answer of its own: it was not sampled from the policy."""
    is_recalled: bool = False
    """True where it was sampled in an earlier step and is learned from again."""
    staleness: int = 0
    """Updates that the policy took between the weights that sampled it and the first update that learned from it."""
    unscored: str | None = None
    """Why a judge has no score for it."""
    turn_tags: tuple[int, ...] | None = None
    """Kind of each of the policy's turns, as a number (`feedback.graders.MetaTags`)."""
    set_rewards: tuple[tuple[float, ...], ...] | None = None
    """Rewards [m][k] of the m answers that a response offers (`feedback.graders.AnswerSet`)."""
    process_scores: tuple[tuple[float, ...], ...] | None = None
    """Scores of the steps within each of the policy's turns (`fdt.reward_models.ProcessReward`)."""
    skills: tuple[RetrievedSkill, ...] = ()
    """Skills that were retrieved for it; those that were shown stand in the task's messages."""
    measures: dict[str, float] = field(default_factory=dict)
    """Further named scores, for gates and rewards, that are no part of `score`: what a rollout source found out about
    this attempt, such as how much better the hinted policy did."""

    @property
    def policy_turns(self) -> tuple[Turn, ...]:
        """The assistant's turns, which the policy wrote or is compared with; `Feedback.turn` counts them from 0."""
        return tuple(self.turns[place] for place in self.policy_places)

    @property
    def policy_places(self) -> tuple[int, ...]:
        """Where in `turns` the assistant's turns stand."""
        return tuple(place for place, turn in enumerate(self.turns) if turn.role == "assistant")

    @property
    def response(self) -> str:
        """Text of the last assistant turn; empty if there is none."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant"), "")

    @property
    def score(self) -> float:
        """Mean of the scores of the whole episode, or where there are none of its turns; in [0, 1], NaN if absent."""
        graded = [item for item in self.feedback if not math.isnan(item.score) and item.name not in STYLE_SCORES]
        scores = [item.score for item in graded if item.turn is None] or [item.score for item in graded]
        return sum(scores) / len(scores) if scores else math.nan

    @property
    def critique(self) -> str | None:
        """The distinct critiques, one a line; None if there is none."""
        return "\n".join(deduplicate(item.text for item in self.feedback)) or None

    @property
    def correction(self) -> Feedback | None:
        """The first feedback that gives a correction, which says of which turn too; None if there is none."""
        return next((item for item in self.feedback if item.revision is not None), None)

    @property
    def revision(self) -> str | None:
        """The first correction given; None if there is none."""
        return None if self.correction is None else self.correction.revision

    @property
    def is_cut_off(self) -> bool:
        """Whether the last answer was cut off."""
        return not self.finished

    @property
    def scores(self) -> dict[str, float]:
        """Every named score of the whole episode, in [0, 1], with "score" for their mean; NaN where a name was judged
        without a number. A name that judged turns alone stands for the whole with their mean."""
        given: dict[str, list[float]] = {}
        whole = {item.name for item in self.feedback if item.turn is None}
        for item in self.feedback:
            if item.turn is None or item.name not in whole:
                given.setdefault(item.name, []).extend([] if math.isnan(item.score) else [item.score])
        found = {name: sum(values) / len(values) if values else math.nan for name, values in given.items()}
        return found | self.measures | {"score": self.score}

    @property
    def turn_scores(self) -> dict[str, dict[int, float]]:
        """For each name the score of each of the policy's turns that has one: the mean where it has several."""
        given: dict[str, dict[int, list[float]]] = {}
        for item in self.feedback:
            if item.turn is not None and not math.isnan(item.score):
                given.setdefault(item.name, {}).setdefault(item.turn, []).append(item.score)
        return {name: {turn: sum(v) / len(v) for turn, v in turns.items()} for name, turns in given.items()}

    def add_feedback(self, *items: Feedback) -> Episode:
        """The same episode with `items` added after the feedback it has."""
        return replace(self, feedback=self.feedback + items)


def deduplicate(texts: Iterable[str | None]) -> tuple[str, ...]:
    """The texts that are neither None nor empty, each once, in order."""
    return tuple(dict.fromkeys(text for text in texts if text))


def hash_prompt(messages: Iterable[Message]) -> str:
    """Name of the group of all rows with this prompt: equal messages give equal keys, in every process."""
    messages = list(messages)
    text = _get_plain_prompt(messages)
    if text is not None:
        return hash_text(text)
    return _hash_key(json.dumps(messages, sort_keys=True, ensure_ascii=True))


def _get_plain_prompt(messages: Sequence[Message]) -> Any:
    """The content of a prompt that is one message of the user; None for any other."""
    if len(messages) == 1 and messages[0].keys() == {"role", "content"} and messages[0]["role"] == "user":
        return messages[0]["content"]
    return None


def hash_text(prompt: str) -> str:
    """`hash_prompt` of one message of the user, without the detour over the general encoder."""
    return _hash_key(f'[{{"content": {_quote_json(prompt)}, "role": "user"}}]')


def _hash_key(canonical: str) -> str:
    return "prompt-" + hashlib.sha256(canonical.encode()).hexdigest()[:16]


def attach_hints(episodes: list[Episode]) -> list[Episode]:
    """Sets each task's `hints` to the distinct critiques of all its episodes, in order."""
    critiques: dict[str, list[str | None]] = {}
    for episode in episodes:
        critiques.setdefault(episode.task.key, []).extend(item.text for item in episode.feedback)
    hints = {key: deduplicate(texts) for key, texts in critiques.items()}
    return [_attach(episode, hints[episode.task.key]) for episode in episodes]


def _attach(episode: Episode, hints: tuple[str, ...]) -> Episode:
    if episode.task.hints == hints:
        return episode
    return replace(episode, task=replace(episode.task, hints=hints))


def collect_tasks(episodes: Iterable[Episode]) -> list[Task]:
    """The distinct prompts of the episodes, first seen first: one task for each pair of key and messages."""
    tasks: dict[tuple[str, str, bool], Task] = {}
    for episode in episodes:
        text = _get_plain_prompt(episode.task.messages)
        prompt = hash_prompt(episode.task.messages) if text is None else text
        tasks.setdefault((episode.task.key, prompt, text is None), episode.task)
    return list(tasks.values())
