"""A small world, learned in a minute: every user has a hidden convention for a list of digits, and reacts to answers.

The prompt names a user and four digits. The right answer is the list transformed by that user's convention, which no
prompt reveals. A policy may first name the convention it follows (`reversed: 2413`); what counts is the list. A score
says right or wrong; a critique names the convention, for some users only, and sometimes the wrong one. Whoever guesses
is right once in eight answers. Users may waver, some more than others: then nobody can be sure, and a policy may state
its confidence on a second line (`Confidence: 0.7`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from fdt.environments.base import SPLITS, Environment, Reply, Session
from feedback.graders import Grader
from feedback.types import Episode, Feedback, Task, Turn

CONVENTIONS: dict[str, Callable[[str], str]] = {
    "reversed": lambda digits: digits[::-1],
    "swapped": lambda digits: digits[1] + digits[0] + digits[3] + digits[2],
    "halved": lambda digits: digits[2:] + digits[:2],
    "leftward": lambda digits: digits[1:] + digits[0],
    "rightward": lambda digits: digits[-1] + digits[:-1],
    "raised": lambda digits: "".join(str((int(d) + 1) % 10) for d in digits),
    "lowered": lambda digits: "".join(str((int(d) - 1) % 10) for d in digits),
    "mirrored": lambda digits: "".join(str(9 - int(d)) for d in digits),
}
"""What may be done to four digits: `halved` exchanges the halves, `raised` adds 1 to each digit (9 becomes 0),
`lowered` takes 1 away, `mirrored` takes each from 9."""
USERS = (
    "amber",
    "basil",
    "cedar",
    "dahlia",
    "elder",
    "fennel",
    "ginger",
    "hazel",
    "iris",
    "juniper",
    "laurel",
    "maple",
    "nettle",
    "olive",
    "poppy",
    "rowan",
)
LENGTH = 4
SHARES = {"train": 0.5, "heldout": 0.9, "test": 1.0}
"""Where each split ends on the scale from 0 to 1 on which every list has its place."""


@dataclass(frozen=True)
class Conventions(Environment):
    """Users, their conventions, and their feedback on an answer. Held-out and test prompts: same users, new lists."""

    users: int = 8
    """How many users there are, at most 16; conventions are spread evenly over them."""
    coverage: float = 1.0
    """Share of the users who criticise; rounded to whole users."""
    noise: float = 0.0
    """Chance that a critique names another convention than the user's."""
    score_rate: float = 1.0
    """Share of the answers that receive a score."""
    wrong_score_rate: float = 0.0
    """Chance that a score says the opposite, on prompts that train."""
    always_wrong: int = 0
    """How many of the users who criticise name a wrong convention every time, each time another one."""
    states_answer: bool = False
    """Critiques hold the transformed list alone, not the name of the convention."""
    shuffle_critiques: bool = False
    """Control: each critique is one meant for another user, drawn afresh."""
    with_revision: bool = False
    """Every answer comes back with the right one, as a revision to imitate."""
    wavering: float = 0.0
    """Chance that the least steady user wants another convention than theirs; drawn for each answer, and what is right
    then and what a critique names follow that draw. The other users' chances lie evenly between it and 0."""
    wavering_seed: int = 0
    """Seed of who wavers how much, and of their wishes."""
    world_seed: int = 0
    """Seed of who has which convention and who criticises."""
    first_user: int = 0
    """How many of the 16 users are passed over, so that worlds side by side have users of their own."""

    def __post_init__(self) -> None:
        most = len(USERS) - self.first_user
        if not 2 <= self.users <= most or self.first_user < 0:
            raise ValueError(f"Conventions.users: got {self.users}, expected 2 to {most}")
        for name in ("coverage", "noise", "score_rate", "wrong_score_rate", "wavering"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"Conventions.{name}: got {getattr(self, name)}, expected a share from 0 to 1")

    @property
    def user_names(self) -> tuple[str, ...]:
        """The users, by name."""
        return USERS[self.first_user : self.first_user + self.users]

    @property
    def habits(self) -> dict[str, str]:
        """The convention of each user."""
        conventions = [list(CONVENTIONS)[n % len(CONVENTIONS)] for n in range(self.users)]
        random.Random(f"habits {self.world_seed}").shuffle(conventions)
        return dict(zip(self.user_names, conventions, strict=True))

    @property
    def critiquing_users(self) -> frozenset[str]:
        """The users who criticise."""
        count = round(self.coverage * self.users)
        return frozenset(random.Random(f"vocal {self.world_seed}").sample(self.user_names, count))

    @property
    def unreliable_users(self) -> frozenset[str]:
        """The users whose every critique is wrong."""
        users = sorted(self.critiquing_users)
        order = random.Random(f"lying {self.world_seed}").sample(users, len(users))
        return frozenset(order[: self.always_wrong])

    @property
    def switch_chances(self) -> dict[str, float]:
        """The chance of each of n users to want another convention than theirs: `wavering` times 1/n, 2/n, ... 1."""
        order = random.Random(f"whims {self.wavering_seed}").sample(self.user_names, self.users)
        return {user: self.wavering * (place + 1) / self.users for place, user in enumerate(order)}

    def draw_convention(self, user: str, rng: random.Random) -> str:
        """The convention that a user wants this time: their own, or by their `switch_chances` any other, all alike."""
        habit = self.habits[user]
        others = [other for other in CONVENTIONS if other != habit]
        return habit if rng.random() >= self.switch_chances[user] else rng.choice(others)

    def sample_tasks(self, split: str, count: int, seed: int) -> list[Task]:
        """Pairs of a user and a list, without repetition; a list belongs to one split, whoever asks."""
        digits = build_lists(split)
        habits = self.habits
        known = range(len(digits) * self.users)
        drawn = random.Random(f"{split} {seed}").sample(known, min(count, len(known)))
        return [_build_task(self.user_names[n % self.users], digits[n // self.users], habits, split) for n in drawn]

    def start(self, task: Task, seed: int) -> Session:
        """The user's reactions, drawn from the world, the task and the seed."""
        convention = self.draw_convention(
            task.meta["user"], random.Random(f"wish {self.wavering_seed} {task.key} {seed}")
        )
        return ConventionsSession(self, task, convention, random.Random(f"{self.world_seed} {task.key} {seed}"))

    def write_critique(self, user: str, convention: str, digits: str, rng: random.Random) -> str:
        """A user's critique: it names one convention, with `noise` not the one that is wanted."""
        named = convention
        if self.shuffle_critiques:
            named = self.habits[rng.choice([other for other in self.habits if other != user])]
        if rng.random() < self.noise or user in self.unreliable_users:
            named = rng.choice([other for other in CONVENTIONS if other != named])
        return f"It should be {CONVENTIONS[named](digits) if self.states_answer else named}."


@dataclass
class ConventionsSession(Session):
    """One prompt and one reply."""

    world: Conventions
    task: Task
    convention: str
    """The convention that is right this time."""
    rng: random.Random

    def __post_init__(self) -> None:
        self.messages = self.task.messages

    def reply(self, turn: Turn) -> Reply:
        """A score (always on prompts that measure), a critique and a revision, each where there is one."""
        user, digits = self.task.meta["user"], self.task.meta["digits"]
        # Drawn in any case, so that arms that differ in one knob meet the same draws in the others.
        scored = self.rng.random() < self.world.score_rate or self.task.meta["split"] != "train"
        critique = self.world.write_critique(user, self.convention, digits, self.rng)
        right = f"{self.convention}: {CONVENTIONS[self.convention](digits)}"
        flipped = self.rng.random() < self.world.wrong_score_rate and self.task.meta["split"] == "train"
        score = float((extract_list(turn.text) == extract_list(right)) != flipped)
        return Reply(
            feedback=(
                Feedback(
                    source="environment",
                    annotator=user,
                    name="right",
                    score=score if scored else float("nan"),
                    text=critique if user in self.world.critiquing_users else None,
                    revision=right if self.world.with_revision else None,
                ),
            )
        )


@dataclass(frozen=True)
class ExactList(Grader):
    """Score 1 where the answer's list is the reference's, else 0: what rewrites are graded by."""

    def __call__(self, episodes: list[Episode]) -> list[Episode]:
        """Adds one `Feedback` named "right" to each episode."""
        scores = [Feedback("environment", None, "right", score_answer(e.response, e.task)) for e in episodes]
        return [episode.add_feedback(item) for episode, item in zip(episodes, scores, strict=True)]


def score_answer(text: str, task: Task) -> float:
    """1 where the list that is stated is the reference's, which follows the user's own convention; else 0."""
    return float(extract_list(text) == extract_list(task.reference or ""))


def extract_list(answer: str) -> str:
    """The list of an answer: on its first line what stands after the last colon, or all of it; no blanks around it."""
    return answer.strip().partition("\n")[0].rpartition(":")[2].strip()


@lru_cache(maxsize=3)
def build_lists(split: str) -> tuple[str, ...]:
    """The lists of a split: those on which all conventions differ, so that a guess is right once in eight.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, expected one of {', '.join(SPLITS)}")
    before = dict(zip(SPLITS, (0.0, *SHARES.values()), strict=False))[split]
    every = (f"{number:0{LENGTH}d}" for number in range(10**LENGTH))
    return tuple(
        digits for digits in every if before <= _hash_to_unit(digits) < SHARES[split] and _is_distinctive(digits)
    )


def _is_distinctive(digits: str) -> bool:
    return len({convention(digits) for convention in CONVENTIONS.values()}) == len(CONVENTIONS)


def _hash_to_unit(digits: str) -> float:
    return int(hashlib.sha256(digits.encode()).hexdigest()[:8], 16) / 16**8


def _build_task(user: str, digits: str, habits: dict[str, str], split: str) -> Task:
    return Task(
        key=f"{user}-{digits}",
        messages=({"role": "user", "content": f"{user}: {digits}"},),
        reference=f"{habits[user]}: {CONVENTIONS[habits[user]](digits)}",
        meta={"user": user, "digits": digits, "split": split},
    )
