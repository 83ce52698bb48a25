"""The table of mutants holds: each text stands where it was, each test exists, and the runner tells killed from not."""

import ast

import pytest

from tests.helpers.paths import ROOT
from tests.mutations.mutant import Mutant
from tests.mutations.run import AREAS, MUTANTS, format_table, judge


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.breaks for mutant in MUTANTS])
def test_a_mutant_still_fits_the_code(mutant):
    text = (ROOT / mutant.path).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1 and mutant.new != mutant.old
    compile(text.replace(mutant.old, mutant.new), mutant.path, "exec")
    for test in mutant.test.split():
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_every_area_has_mutants_and_none_is_there_twice():
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS) >= 60
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS) and min(map(len, AREAS.values())) >= 15


def test_the_page_is_the_table():
    assert (ROOT / "docs" / "mutations.md").read_text(encoding="utf-8") == format_table()


def test_a_mutant_is_written_once_or_refused(tmp_path):
    mutant = Mutant("one becomes two", "a.py", "x = 1", "x = 2", "tests/test_a.py::test_a")
    (tmp_path / "a.py").write_text("x = 1\n")
    assert mutant.apply(tmp_path) == "x = 1\n" and (tmp_path / "a.py").read_text() == "x = 2\n"
    for text in ("y = 1\n", "x = 1\nx = 1\n"):
        (tmp_path / "a.py").write_text(text)
        with pytest.raises(ValueError, match="a.py: the text of 'one becomes two' stands there [02] times"):
            mutant.apply(tmp_path)
        assert (tmp_path / "a.py").read_text() == text


def test_only_a_failing_or_hanging_test_kills():
    assert [judge(status) for status in (1, -1, 0, 2, 5)] == ["killed", "killed", "SURVIVED", "NOT RUN", "NOT RUN"]


@pytest.mark.slow
def test_the_runner_kills_finds_survivors_and_takes_mistakes_back(tmp_path):
    from tests.mutations.run import Copy

    copy = Copy(tmp_path)
    try:
        test = "tests/feedback/test_diversity.py::test_pass_at_k_by_hand"
        path, old = "feedback/diversity.py", "LONGEST = 4000"
        before = (tmp_path / path).read_text()
        assert copy.run_tests([test]) == (0, "")
        wrong = Mutant("pass@k", path, "return 1.0 - math.comb(", "return 0.5 - math.comb(", test)
        status, failed = copy.try_mutant(wrong)
        assert judge(status) == "killed" and failed.startswith(test)
        assert judge(copy.try_mutant(Mutant("nothing", path, old, "LONGEST = 4001", test))[0]) == "SURVIVED"
        assert judge(copy.try_mutant(Mutant("broken", path, old, "LONGEST = (", test))[0]) == "NOT RUN"
        assert (tmp_path / path).read_text() == before
    finally:
        copy.close()
