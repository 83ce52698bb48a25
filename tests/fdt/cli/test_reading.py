"""What all verbs that read a file share: `--map`, a scale told once, and the word that a file has no feedback."""

import json

import pytest

from fdt.__main__ import main
from fdt.cli.reading import replace_map
from fdt.errors import UserError
from feedback.readers import read
from tests.helpers.runs import config, quick

MAP = ["--map", "prompt=Question", "response=Answer", "score=Rating", "critique=Comment", "revision=Better answer"]
SCALE = ["--scale", "1", "5"]


@pytest.fixture
def sheet(tmp_path):
    rows = "".join(f"1 + {n}?,{n},{1 + 4 * (n % 2)},It is {n + 1}.,{n + 1}\n" for n in range(6))
    (tmp_path / "sheet.csv").write_text("Question,Answer,Rating,Comment,Better answer\n" + rows)
    return str(tmp_path / "sheet.csv")


def test_a_map_reads_a_spreadsheet_with_the_verbs_of_data(sheet, tmp_path, capsys):
    assert main(["data", "check", sheet, *SCALE, *MAP]) == 0
    told = capsys.readouterr().out
    assert "6 loaded" in told and "scored: 6\n  with critique: 6\n  with revision: 6" in told
    assert main(["data", "stats", sheet, *SCALE, *MAP, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"][0]["mean"] == 3 and found["lengths"]["revision"]["count"] == 6  # half 1, half 5 on the scale
    assert main(["data", "convert", sheet, str(tmp_path / "rows.jsonl"), *SCALE, *MAP]) == 0
    first = read(tmp_path / "rows.jsonl")[0]
    assert (first.response, first.score, first.critique, first.revision) == ("0", 0, "It is 1.", "1")


def test_a_map_reads_a_spreadsheet_where_grams_are_mined_and_steps_are_cut(tmp_path, capsys):
    said = "1. we add one and one\n2. so the sum is two"
    rows = "".join(f'q{n},"{said} {n}",1\n' for n in range(4))
    (tmp_path / "f.csv").write_text("Question,Solution,Stars\n" + rows)
    asked = ["--map", "prompt=Question", "response=Solution", "score=Stars"]
    assert main(["grams", str(tmp_path / "f.csv"), "--out", str(tmp_path / "g.json"), *asked]) == 0
    assert main(["data", "steps", str(tmp_path / "f.csv"), str(tmp_path / "s.jsonl"), *asked]) == 0
    assert len(read(tmp_path / "s.jsonl")) == 4


def test_fit_trains_on_a_spreadsheet_by_its_map(sheet, tmp_path):
    path = config(tmp_path, "replay", data__scale=[1, 5], data__credit="objectives.DatasetMean", data__heldout=0.5)
    done = quick("fit", "-c", str(path), "--data.file", sheet, "--trainer.max_steps", "1", *MAP)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert found["rows"] == 6 and sum(found["used"].values()) > 0
    assert all("critique" in name and "revision" in name for name in found["used"])
    assert "Better answer" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_setting_takes_the_place_of_the_map():
    assert replace_map(["fit", "-c", "x"]) == ["fit", "-c", "x"]
    given = ["fit", "--map", "prompt=Q", "revision=Better answer", "-c", "x"]
    assert replace_map(given) == ["fit", '--data.map={"prompt": "Q", "revision": "Better answer"}', "-c", "x"]
    assert replace_map(["fit", "--map=prompt=Q"]) == ["fit", '--data.map={"prompt": "Q"}']


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--map", "promt=Q"], "Did you mean prompt?"),
        (["--map", "prompt"], "expected FIELD=COLUMN"),
        (["--map", "prompt=Q", "prompt=R"], "twice"),
    ],
)
def test_a_map_that_makes_no_sense_is_one_message(sheet, words, said, capsys):
    with pytest.raises(UserError) as error:
        replace_map(["fit", *words])
    assert said in str(error.value)
    try:
        code = main(["data", "check", sheet, *words])
    except SystemExit as end:  # argparse
        code = end.code
    assert code == 2 and said in capsys.readouterr().err


def test_columns_that_fit_nothing_are_one_line(sheet, capsys):
    assert main(["data", "check", sheet]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert 'revision="Better answer" --scale 1 5' in line


def test_a_missing_scale_is_told_once_and_other_faults_each(tmp_path, capsys):
    rows = [{"prompt": f"p{n}", "response": "r", "score": 1 + n % 5} for n in range(53)] + [{"prompt": "p"}]
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "check", str(tmp_path / "f.jsonl")]) == 1
    told = capsys.readouterr().out
    assert told.count("Declare the scale") == 1 and "54: response: got nothing" in told
    assert "54 records = 0 loaded + 54 refused (told once; 52 more: no scale is declared)" in told


def test_a_file_without_feedback_says_so_once(tmp_path, capsys):
    (tmp_path / "f.jsonl").write_text('{"prompt": "p", "response": "r"}\n' * 3)
    for verb in ("check", "stats"):
        assert main(["data", verb, str(tmp_path / "f.jsonl")]) == 0
        assert capsys.readouterr().out.count("no feedback in any record") == 1
    (tmp_path / "f.jsonl").write_text('{"prompt": "p", "chosen": "r", "rejected": "s"}\n')
    assert main(["data", "check", str(tmp_path / "f.jsonl")]) == 0
    assert "no feedback" not in capsys.readouterr().out
