"""Numbers counted in bounded memory, and drawn as bars of text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

KEPT = 256  # distinct values; beyond it they are rounded to fewer digits
EXACT = 11  # distinct values that each have a bar; more of them share ten bins
BLOCKS = " ▏▎▍▌▋▊▉█"


@dataclass
class Histogram:
    """Numbers one by one: count and mean exactly, the distribution to as many digits as `KEPT` values allow."""

    digits: int = 9
    count: int = 0
    total: float = 0.0
    values: Counter[float] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        """Counts one finite number."""
        self.count += 1
        self.total += value
        self.values[round(value, self.digits)] += 1
        while len(self.values) > KEPT:
            self.digits -= 1
            coarser: Counter[float] = Counter()
            for one, count in self.values.items():
                coarser[round(one, self.digits)] += count
            self.values = coarser

    @property
    def mean(self) -> float:
        """Mean of all numbers; raises ZeroDivisionError where there is none."""
        return self.total / self.count

    def compute_bars(self) -> list[tuple[str, int]]:
        """Label and count: one bar a value where there are few, else ten equal bins, closed to the left."""
        if len(self.values) <= EXACT:
            return [(f"{value:g}", self.values[value]) for value in sorted(self.values)]
        low = min(self.values)
        high = max(self.values)
        width = (high - low) / 10
        found = [0] * 10
        for value, count in self.values.items():
            found[min(int((value - low) / width), 9)] += count
        return [(f"{low + width * n:.3g} to {low + width * (n + 1):.3g}", count) for n, count in enumerate(found)]


@dataclass
class Lengths:
    """Lengths of texts in characters, exactly: memory grows with the number of distinct lengths alone."""

    values: Counter[int] = field(default_factory=Counter)

    def add(self, text: str | None) -> None:
        """Counts a text; None and the empty text are none."""
        if text:
            self.values[len(text)] += 1

    def compute_quantile(self, share: float) -> int:
        """The smallest length that at least `share` of the texts do not exceed; 0 without texts."""
        wanted = share * self.values.total()
        seen = 0
        for length in sorted(self.values):
            seen += self.values[length]
            if seen >= wanted:
                return length
        return 0

    def summarise(self) -> dict[str, float]:
        """Count, mean, median, 90 % quantile and longest; only the count where there is none."""
        count = self.values.total()
        if not count:
            return {"count": 0}
        mean = sum(length * times for length, times in self.values.items()) / count
        return {
            "count": count,
            "mean": round(mean, 1),
            "median": self.compute_quantile(0.5),
            "p90": self.compute_quantile(0.9),
            "longest": max(self.values),
        }


def render_bar(count: int, largest: int, width: int) -> str:
    """A bar of at most `width` columns, to an eighth of one; never empty for a count above 0."""
    eighths = max(round(8 * width * count / largest), 1) if count else 0
    return BLOCKS[8] * (eighths // 8) + (BLOCKS[eighths % 8] if eighths % 8 else "")
