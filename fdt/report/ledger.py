"""What became of the feedback: rows, rewrites, and critiques that moved nothing."""

from collections import Counter
from dataclasses import dataclass, field

from fdt.measures import accounting_line, counts, episode_key, number, tokens
from fdt.runs import Record, Run

# Below this mean |log p(teacher) − log p|, in nats per token, a critique is counted as without effect.
NO_EFFECT = 0.02


@dataclass(frozen=True)
class Ledger:
    """The account of one arm."""

    name: str
    line: str
    file: str
    reasons: list[tuple[str, str, int]]  # used or dropped, why, rows of the file
    rewrites: list[tuple[str, int]] = field(default_factory=list)  # status -> episodes, most frequent first
    taught: int = 0  # episodes with recorded tokens that the teacher scored
    without_effect: int = 0  # of those, the ones below `NO_EFFECT`


def ledger(run: Run) -> Ledger:
    """The account of `run`, from its accounting file and its transcripts."""
    statuses: dict[tuple[float, str], str] = {}
    moved: dict[tuple[float, str], bool] = {}
    for record in run.transcripts():
        # A resumed run repeats steps: what was recorded last counts.
        key = episode_key(record)
        if record.get("revision_status"):
            statuses[key] = str(record["revision_status"])
        if (effect := _effect(record)) is not None:
            moved[key] = effect >= NO_EFFECT
    return Ledger(
        name=run.name,
        line=accounting_line(run.accounting) if run.accounting else "no accounting was recorded",
        file=str(run.accounting.get("file", "")),
        reasons=[(side, why, n) for side in ("used", "dropped") for why, n in counts(run.accounting, side).items()],
        # The accounting counts every rewrite, the transcripts those of the steps they cover.
        rewrites=Counter(counts(run.accounting, "rewrites") or statuses.values()).most_common(),
        taught=len(moved),
        without_effect=sum(not effect for effect in moved.values()),
    )


def _effect(record: Record) -> float | None:
    """Mean |log p(teacher) − log p| in nats per token over the tokens the teacher scored; None where it scored none."""
    gaps = [abs(number(token, "teacher_logp") - number(token, "logp")) for token in tokens(record)]
    gaps = [gap for gap in gaps if gap == gap]
    return sum(gaps) / len(gaps) if gaps else None
