"""The table's numbers against the files they come from."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fdt.report.measures import format_accounting
from fdt.report.runs import find_runs
from fdt.report.table import Row, build_table, format_interval
from tests.helpers.run_folder import PROMPTS, STEPS, answers, write_arm, write_likelihood_arm, write_lines


def shown(table, width: int = 120) -> str:
    """What `table` prints on a terminal of `width` columns."""
    console = Console(file=StringIO(), width=width, force_terminal=False)
    table.show(console)
    return console.file.getvalue()


def test_base_once_then_one_row_per_arm(root):
    table = build_table(find_runs(root))
    assert [row.name for row in table.rows] == ["base", "on-policy", "replay"]
    assert table.notes == []


def test_numbers_of_an_arm(root):
    base, arm, _ = build_table(find_runs(root)).rows
    # 12 of 40 before, 26 of 40 after; 2 lost and 16 won make (16 - 2) / 40.
    assert (base.value.mean, arm.value.mean) == pytest.approx((12 / 40, 26 / 40))
    assert arm.change.mean == pytest.approx(14 / 40)
    assert arm.change.low < 14 / 40 < arm.change.high
    # The steps that the resumed run repeated count once; 4 episodes and 6 s a step; 200 of 220 rows.
    assert (arm.steps, arm.rollouts) == (STEPS, 4 * STEPS)
    assert arm.minutes == pytest.approx(STEPS * 6 / 60)
    assert arm.used_share == pytest.approx(200 / 220)
    assert (base.is_base, base.change, base.prompts) == (True, None, PROMPTS)


def test_likelihood_is_nats_over_tokens(tmp_path):
    write_likelihood_arm(tmp_path / "all", 0.8)
    base, arm = build_table(find_runs(tmp_path)).rows
    assert (base.kind, base.value.mean) == ("likelihood", pytest.approx(2.0))
    assert (arm.value.mean, arm.change.mean) == (pytest.approx(1.6), pytest.approx(-0.4))
    assert arm.length_unit == "tokens"
    assert "NLL, nats/token" in shown(build_table(find_runs(tmp_path)))


def test_what_is_preferred_is_told_where_a_worse_answer_stands_beside(tmp_path):
    folder = write_likelihood_arm(tmp_path / "all", 0.8)
    assert build_table(find_runs(tmp_path)).notes == []
    for name, nats in (("base", 1.5), ("last", 1.7)):  # a token; the reference costs 2.0 before and 1.6 after
        lines = map(json.loads, (folder / f"eval/{name}.jsonl").read_text().splitlines())
        worse = [line | {"rejected_nll_sum": 3 * nats, "rejected_tokens": 3} for line in lines]
        write_lines(folder / f"eval/{name}.jsonl", worse)
    told = "all: reference likelier per token than the worse answer: 0.0 % of 20 prompts before, 100.0 % after; "
    assert build_table(find_runs(tmp_path)).notes == [told + "margin -0.500 before, +0.100 nats after"]


def list_notes(folder: Path, base: list[str], last: list[str], references: list[str]) -> list[str]:
    for name, given in (("base", base), ("last", last)):
        records = [
            {"id": n, "response": text, "reference": right, "score": float(text == right)}
            for n, (text, right) in enumerate(zip(given, references, strict=True))
        ]
        write_lines(folder / f"eval/{name}.jsonl", records)
    return [note for note in build_table(find_runs(folder.parent)).notes if "one answer" in note]


def test_one_answer_to_most_prompts_is_told(tmp_path):
    folder = write_arm(tmp_path / "arm")
    numbers = [str(n) for n in range(20)]
    halves = ["1"] * 10 + numbers[10:]
    (told,) = list_notes(folder, numbers, ["1"] * 18 + ["2", "3"], halves)
    assert told == "arm: one answer, '1', to 90% of the prompts; the commonest reference is that of 50%"
    assert not list_notes(folder, numbers, halves, halves), "half of the prompts want it"
    assert not list_notes(folder, ["1"] * 20, ["1"] * 20, numbers), "nothing that training did"
    assert not list_notes(folder, numbers[:5], ["1"] * 5, numbers[:5]), "of five answers"
    assert list_notes(folder, numbers, ["yes"] * 20, [""] * 20) == ["arm: one answer, 'yes', to 100% of the prompts"]


def test_both_kinds_make_two_tables(tmp_path):
    write_likelihood_arm(tmp_path / "all", 0.8)
    write_arm(tmp_path / "sums")
    table = build_table(find_runs(tmp_path))
    assert sorted(table.list_kinds()) == ["likelihood", "score"]
    assert table.notes == []
    assert table.as_markdown().count("| base |") == 2


def test_another_base_gets_its_own_row_and_a_note(root):
    write_lines(root / "replay/eval/base.jsonl", answers([1.0] * 20 + [0.0] * 20))
    table = build_table(find_runs(root))
    assert [row.name for row in table.rows] == ["base", "base of replay", "on-policy", "replay"]
    assert table.notes == ["replay and on-policy have different bases: compare changes, not levels"]
    assert table.rows[-1].change.mean == pytest.approx((14 - 20) / 40)


def test_rounding_makes_no_other_base(tmp_path):
    for name, factor in (("one", 1.0), ("two", 1.00001)):
        write_likelihood_arm(tmp_path / name, 0.9)
        base = [{"id": i, "nll_sum": 2.0 * factor * (10 + i), "tokens": 10 + i} for i in range(20)]
        write_lines(tmp_path / name / "eval/base.jsonl", base)
    assert len(build_table(find_runs(tmp_path)).rows) == 3


def test_absent_scores_are_left_out_by_pairs_and_said(tmp_path):
    arm = write_arm(tmp_path / "arm")
    write_lines(arm / "eval/base.jsonl", answers([1.0, 0.0, 0.0, 0.0]))
    write_lines(arm / "eval/last.jsonl", answers([float("nan"), 1.0, 1.0, 1.0]))
    table = build_table(find_runs(tmp_path))
    assert table.rows[1].change.mean == 1.0
    assert table.rows[1].prompts == 3
    assert table.notes == [
        "arm: its change is over the 3 of 4 prompts measured before and after",
        "arm: 1 of 4 held-out answers have no measurement",
    ]


def test_a_question_asked_twice_counts_twice(tmp_path):
    arm = write_arm(tmp_path / "arm")
    for name, scores in (("base", [0.0, 1.0, 0.0]), ("last", [1.0, 1.0, 0.0])):
        write_lines(arm / f"eval/{name}.jsonl", [{**record, "id": "same"} for record in answers(scores)])
    row = build_table(find_runs(tmp_path)).rows[-1]
    assert (row.prompts, row.change.mean) == (3, pytest.approx(1 / 3))


def test_no_score_at_all_prints_dashes(tmp_path):
    arm = write_arm(tmp_path / "arm")
    for name in ("base", "last"):
        write_lines(arm / f"eval/{name}.jsonl", answers([None, None]))
    row = build_table(find_runs(tmp_path)).rows[-1]
    assert (row.value, row.change, row.prompts) == (None, None, 0)
    assert "–" in shown(build_table(find_runs(tmp_path)))


def test_an_arm_without_answers_yet_is_named(tmp_path):
    (write_arm(tmp_path / "arm") / "eval/last.jsonl").unlink()
    table = build_table(find_runs(tmp_path))
    assert [row.name for row in table.rows] == ["base"]
    assert table.notes == ["arm: no answers to the held-out prompts after training"]


def test_json_is_strict_and_carries_the_numbers(root):
    (root / "replay/accounting.json").unlink()
    table = build_table(find_runs(root))
    table.save(root)

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((root / "table.json").read_text(), parse_constant=refuse)
    assert content["rows"][1]["change"]["mean"] == pytest.approx(14 / 40)
    assert content["rows"][2]["used_share"] is None


def test_markdown_has_as_many_cells_in_every_line(root):
    table = build_table(find_runs(root))
    lines = table.as_markdown().strip().splitlines()
    assert {line.count("|") for line in lines} == {10}
    assert "| on-policy | 40 | 65.0 [" in lines[3]


def test_terminal_shows_every_number_in_80_columns(root):
    text = shown(build_table(find_runs(root)), width=80)
    assert "65.0 [" in text
    assert "+35.0 [" in text


def test_brackets_in_a_folder_name_are_no_markup(tmp_path):
    write_arm(tmp_path / "[bold]arm")
    assert "[bold]arm" in shown(build_table(find_runs(tmp_path)))


def test_interval_text():
    row = Row("one", "score", 1, None)
    assert format_interval(row.value, 100, ".1f") == "–"


def test_accounting_adds_up_or_says_that_it_does_not():
    right = {"rows": 7, "used": {"both signals": 4, "score only": 1}, "dropped": {"no response": 2, "duplicate": 0}}
    line = "7 rows = 5 used (4 both signals, 1 score only) + 2 dropped (2 no response)"
    assert format_accounting(right) == line
    assert format_accounting({**right, "rows": 8}).endswith("makes 7: the numbers do not add up")
    assert "do not add up" in format_accounting({})
    assert (
        format_accounting({"rows": 3, "used": {"score": 3}, "dropped": {}}) == "3 rows = 3 used (3 score) + 0 dropped"
    )
