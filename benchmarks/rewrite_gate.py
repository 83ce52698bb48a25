"""The acceptance of rewrites, measured: are drafts that it lets pass more often right than drafts at large?

    python benchmarks/rewrite_gate.py --solutions PATH/gsm8k/example_model_solutions.jsonl
    python benchmarks/rewrite_gate.py --solutions PATH --model smollm2-135m-instruct

Drafts are the other recorded models' solutions to the same problem (GSM8K, arXiv 2110.14168), and with ``--model`` that
model's own rewrites of the quickstart's wrong answers, from critiques that keep the answer back. The gate is
``feedback.rewriter.Rewriter``; its graders see no gold answer. It is compared with all drafts, and with a random gate
that accepts as many rows, one draft each. Intervals: 95 %, bootstrap over problems.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fdt.report.table import format_interval
from fdt.resources import find_sample
from fdt.statistics.intervals import Interval, compute_share_difference
from feedback.graders import Agreement, Arithmetic, Grader, GraderChain, NumberMatch
from feedback.readers import read
from feedback.rewriter import Rewriter
from feedback.types import Episode, Task, Turn

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
GATES: dict[str, Grader] = {
    "arithmetic": Arithmetic(),
    "agreement": Agreement(),
    "both": GraderChain([Arithmetic(), Agreement()]),
}


@dataclass(frozen=True)
class Case:
    """One answer with its drafts; ``right``: whether each draft is right, which no gate sees."""

    problem: str
    answer: Episode
    answered: bool
    drafts: list[str]
    right: list[bool]


@dataclass(frozen=True)
class Line:
    """One line of the table; shares of right drafts, and differences of such shares."""

    gate: str
    answers: int
    coverage: float
    accepted: float
    drafts: float
    same_rows: float
    over_drafts: Interval
    over_random: Interval

    def __str__(self) -> str:
        shares = (f"{100 * share:.1f}" for share in (self.coverage, self.accepted, self.drafts, self.same_rows))
        gaps = (format_interval(gap, 100, "+.1f") for gap in (self.over_drafts, self.over_random))
        cells = (self.gate, self.answers, *shares, *gaps)
        return f"| {' | '.join(map(str, cells))} |"


HEAD = """| gate | answers | coverage, % | right: accepted, % | all drafts, % | drafts of the same answers, % \
| accepted - all | accepted - random gate |
|---|---:|---:|---:|---:|---:|---:|---:|"""


def load_recorded(path: Path, limit: int | None) -> list[list[Case]]:
    """For each model the cases in which its solution is the answer and the three others are the drafts."""
    lines = path.read_text(encoding="utf-8").splitlines()[:limit]
    rounds: list[list[Case]] = [[] for _ in MODELS]
    for number, line in enumerate(lines):
        record = json.loads(line)
        task = Task(f"gsm8k-{number}", ({"role": "user", "content": record["question"]},))
        for place, model in enumerate(MODELS):
            others = [record[other] for other in MODELS if other != model]
            random.Random(f"{number} {model}").shuffle(others)  # the first of equals wins, which is to favour no model
            answer = Episode(f"{task.key}-{model}", task, (Turn("assistant", record[model]["solution"]),))
            texts = [other["solution"] for other in others]
            right = [bool(other["is_correct"]) for other in others]
            rounds[place].append(Case(task.key, answer, bool(record[model]["is_correct"]), texts, right))
    return rounds


def make_rewrites(base: str, limit: int) -> list[list[Case]]:
    """One greedy draft for each of the bundled sums' wrong answers, written by ``base`` from a terse critique."""
    from fdt.engines import HuggingFace
    from fdt.policy.policy import Policy
    from fdt.rollout.drafter import PolicyDrafter

    judge = NumberMatch(reveal=False)
    given = [replace(episode, feedback=()) for episode in read(find_sample("sums.jsonl"))]
    wrong = [episode for episode in judge(given) if episode.score == 0][:limit]
    prompts = Rewriter(Agreement()).build_prompts(wrong)
    drafts = PolicyDrafter(Policy(base), HuggingFace(max_new_tokens=24, batch_size=50))(prompts, 1, 0)
    texts = [found[0] for found in drafts]
    pairs = list(zip(wrong, texts, strict=True))
    checked = judge([replace(e, feedback=(), turns=(Turn("assistant", text),)) for e, text in pairs])
    return [
        [
            Case(episode.task.key, episode, False, [text], [after.score == 1])
            for (episode, text), after in zip(pairs, checked, strict=True)
        ]
    ]


def judge_cases(grader: Grader, rounds: list[list[Case]]) -> list[tuple[Case, bool | None]]:
    """Each case with whether the draft that passed is right; None where none passed."""
    pairs = []
    for cases in rounds:
        found, _ = Rewriter(grader).accept([case.answer for case in cases], [case.drafts for case in cases])
        for case, episode in zip(cases, found, strict=True):
            texts = [text.strip() for text in case.drafts]
            passed = episode.revision_status == "accepted"
            pairs.append((case, case.right[texts.index(episode.revision)] if passed else None))
    return pairs


def measure(name: str, pairs: list[tuple[Case, bool | None]]) -> Line:
    """One line; an interval's unit is a problem with all its cases. Raises ValueError where nothing passed."""
    passed = [(case, right) for case, right in pairs if right is not None]
    dice = random.Random(0)
    chosen = [(case, dice.choice(case.right)) for case, _ in dice.sample(pairs, len(passed))]
    counts = {
        "drafts": [(case.problem, right) for case, _ in pairs for right in case.right],
        "gate": [(case.problem, right) for case, right in passed],
        "same": [(case.problem, right) for case, _ in passed for right in case.right],
        "random": [(case.problem, right) for case, right in chosen],
    }
    problems = list(dict.fromkeys(case.problem for case, _ in pairs))
    tallies = {}
    for kind, tries in counts.items():
        hits = Counter(p for p, right in tries if right)
        tried = Counter(p for p, _ in tries)
        tallies[kind] = ([hits[p] for p in problems], [tried[p] for p in problems])
    over = [compute_share_difference(*tallies[kind], *tallies["gate"]) for kind in ("drafts", "random")]
    share = {kind: sum(hits) / sum(tried) for kind, (hits, tried) in tallies.items()}
    coverage = len(passed) / len(pairs)
    return Line(name, len(pairs), coverage, share["gate"], share["drafts"], share["same"], *over)


def build_table(rounds: list[list[Case]]) -> list[Line]:
    """Every gate over all answers, and over the wrong ones alone: those that a critique would be about."""
    lines = []
    for name, grader in GATES.items():
        pairs = judge_cases(grader, rounds)
        wrong = [(case, right) for case, right in pairs if not case.answered]
        for label, part in ((name, pairs), (f"{name}, wrong answers", wrong)):
            if any(right is not None for _, right in part):
                lines.append(measure(label, part))
            else:
                print(f"{label}: nothing passed, of {len(part)} answers", file=sys.stderr)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solutions", type=Path, help="example_model_solutions.jsonl of openai/grade-school-math")
    parser.add_argument("--limit", type=int, help="first so many problems")
    parser.add_argument("--model", help="also measure this model's rewrites of the quickstart's wrong answers")
    parser.add_argument("--drafts", type=int, default=100, help="how many of those")
    args = parser.parse_args()
    parts = {}
    if args.solutions is not None:
        parts["solutions of other models"] = load_recorded(args.solutions, args.limit)
    if args.model is not None:
        parts[f"rewrites by {args.model}"] = make_rewrites(args.model, args.drafts)
    for title, rounds in parts.items():
        print(f"\n{title}\n\n{HEAD}", *build_table(rounds), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
