"""The table of what people's feedback teaches, by hand."""

from benchmarks.human_feedback import build_row, compute_nll


def build_record(nll: float, rejected: float) -> dict:
    """Two tokens at `nll` nats each, against one at `rejected`."""
    return {"nll_sum": 2 * nll, "tokens": 2, "rejected_nll_sum": rejected, "rejected_tokens": 1}


BASE = [build_record(2.0, 1.0), build_record(2.0, 3.0)]
"""Margins -1 and +1."""


def test_changes_are_those_of_the_same_questions():
    after = [build_record(1.0, 3.0), build_record(1.0, 2.0)]  # margins +2 and +1
    row = build_row("arm", [after, after], [BASE, BASE])
    cells = [cell.split(" [")[0] for cell in row.strip("| ").split(" | ")]
    assert cells == ["arm", "1.000", "100.0", "+50.0", "1.500", "+1.500"]
    assert "[+0.000, +3.000]" in row, "one question moved by 3 and the other by nothing"


def test_long_corrections_count_for_more():
    records = [build_record(1.0, 0.0), {"nll_sum": 30.0, "tokens": 10, "rejected_nll_sum": 0.0, "rejected_tokens": 1}]
    assert compute_nll([records]).mean == 32 / 12
