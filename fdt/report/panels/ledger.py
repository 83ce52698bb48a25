"""What became of the feedback: rows, rewrites, who gave it, and critiques that moved nothing."""

from collections import Counter
from dataclasses import dataclass, field

from fdt.report.measures import format_accounting, get_counts, get_episode_key, get_number, get_tokens
from fdt.report.runs import Record, Run

NO_EFFECT = 0.02
"""Below this mean |log p(teacher) - log p|, in nats per token, a critique is counted as without effect."""
MAX_JUDGES = 30
"""Judges in the table."""

Key = tuple[str, str]


@dataclass
class JudgeCounts:
    """What one annotator gave, and what came of it."""

    source: str
    annotator: str
    rows: int = 0  # of the file, with any word or score of theirs
    used: int = 0  # of those, weighted by some term
    critiques: int = 0  # rows of the file that they criticised
    distilled: int = 0  # episodes with their critique whose tokens were recorded and scored by the teacher
    without_effect: int = 0  # of those, the ones below `NO_EFFECT`


@dataclass(frozen=True)
class Ledger:
    """The account of one arm."""

    name: str
    line: str
    file: str
    reasons: list[tuple[str, str, int]]  # used or dropped, why, rows of the file
    rewrites: list[tuple[str, int]] = field(default_factory=list)  # status -> episodes, most frequent first
    distilled: int = 0  # episodes with recorded tokens that the teacher scored
    without_effect: int = 0  # of those, the ones below `NO_EFFECT`
    judges: list[JudgeCounts] = field(default_factory=list)  # most rows first
    more_judges: int = 0  # beyond `MAX_JUDGES`


def build_ledger(run: Run) -> Ledger:
    """The account of `run`, from its accounting file and its transcripts."""
    statuses: dict[tuple[float, str], str] = {}
    moved: dict[tuple[float, str], tuple[bool, list[Key]]] = {}
    for record in run.read_transcripts():
        # A resumed run repeats steps: what was recorded last counts.
        key = get_episode_key(record)
        if record.get("revision_status"):
            statuses[key] = str(record["revision_status"])
        if (effect := _compute_effect(record)) is not None:
            moved[key] = effect >= NO_EFFECT, _list_annotators(record.get("critique_by"))
    judges = _count_judges(run.accounting, list(moved.values()))
    return Ledger(
        name=run.name,
        line=format_accounting(run.accounting) if run.accounting else "no accounting was recorded",
        file=str(run.accounting.get("file", "")),
        reasons=[(side, why, n) for side in ("used", "dropped") for why, n in get_counts(run.accounting, side).items()],
        # The accounting counts every rewrite, the transcripts those of the steps they cover.
        rewrites=Counter(get_counts(run.accounting, "rewrites") or statuses.values()).most_common(),
        distilled=len(moved),
        without_effect=sum(not effect for effect, _ in moved.values()),
        judges=judges[:MAX_JUDGES],
        more_judges=max(0, len(judges) - MAX_JUDGES),
    )


def _count_judges(accounting: Record, moved: list[tuple[bool, list[Key]]]) -> list[JudgeCounts]:
    """Everyone who judged a row of the file or a training answer."""
    found: dict[Key, JudgeCounts] = {}
    for entry in _filter_objects(accounting.get("judges")):
        for key in _list_annotators([entry]):
            judge = found.setdefault(key, JudgeCounts(*key))
            for name in ("rows", "used", "critiques"):
                value = get_number(entry, name)
                setattr(judge, name, getattr(judge, name) + (int(value) if value == value else 0))
    for effect, keys in moved:
        for key in keys:
            judge = found.setdefault(key, JudgeCounts(*key))
            judge.distilled += 1
            judge.without_effect += not effect
    return sorted(found.values(), key=lambda judge: (-judge.rows, -judge.distilled))


def _list_annotators(entries: object) -> list[Key]:
    """Source and annotator of each entry, once."""
    return list(
        dict.fromkeys(
            (str(entry.get("source")), str(entry.get("annotator") or "not named")) for entry in _filter_objects(entries)
        )
    )


def _filter_objects(entries: object) -> list[Record]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _compute_effect(record: Record) -> float | None:
    """Mean |log p(teacher) − log p| in nats per token over the tokens the teacher scored; None where it scored none."""
    gaps = [abs(get_number(token, "teacher_logp") - get_number(token, "logp")) for token in get_tokens(record)]
    gaps = [gap for gap in gaps if gap == gap]
    return sum(gaps) / len(gaps) if gaps else None
