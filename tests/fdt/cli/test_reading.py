"""What all verbs that read a file share: `--map`, a scale told once, and the word that a file has no feedback."""

import json

import pytest
import yaml

from fdt.__main__ import main
from fdt.cli.reading import replace_map
from fdt.errors import UserError
from feedback.readers import read
from tests.helpers.paths import ROOT
from tests.helpers.runs import config, quick
from tests.helpers.servers import Server, completion

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


def test_a_map_reads_a_spreadsheet_where_its_rows_are_shown(sheet, tmp_path, capsys):
    path = config(tmp_path, "replay")
    model = str(tmp_path / "model")
    assert path.exists() and main(["data", "show", sheet, *SCALE, *MAP, "--model", model, "--limit", "1"]) == 0
    told = capsys.readouterr().out
    assert "1 + 0?" in told and "It is 1." in told


def test_a_map_reads_a_spreadsheet_where_a_judge_fills_it(sheet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "open.csv").write_text("Question,Answer,Rating\n1 + 1?,3,\n2 + 2?,4,5\n")
    verdict = completion(json.dumps({"analysis": "", "critique": "Count again.", "score": 4}))
    with Server(lambda call: verdict) as server:
        judge = yaml.safe_load((ROOT / "configs" / "judge" / "local.yaml").read_text())
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge).replace("http://127.0.0.1:8000/v1", server.url))
        asked = ["--judge", "judge.yaml", "--out", "out.jsonl", *SCALE, *MAP[:4]]
        assert main(["critique", "open.csv", *asked]) == 0, capsys.readouterr().err
        assert any("1 + 1?" in call.prompt and "3" in call.prompt for call in server.calls)
    first, second = read(tmp_path / "out.jsonl", aggregate="each")
    assert (first.response, first.critique) == ("3", "Count again.")
    assert (second.response, second.score) == ("4", 1)


@pytest.mark.slow
def test_a_map_serves_the_verbs_that_measure(sheet, tmp_path):
    path = str(config(tmp_path, data__scale=[1, 5], data__heldout=0.5))
    (tmp_path / "test.csv").write_text("Question\n7 + 7?\n")
    by_file = {"test": ["--data.test_file", str(tmp_path / "test.csv")]}
    for verb, written in (("validate", "eval/validate"), ("test", "eval/test"), ("predict", "predictions")):
        more = ["--data.file", sheet, *MAP, *by_file.get(verb, [])]
        done = quick(verb, "-c", path, *more)
        assert done.returncode == 0, done.stderr[-2000:]
        records = [json.loads(line) for line in (tmp_path / "run" / f"{written}.jsonl").open()]
        asked = {record["prompt"] for record in records}
        assert asked == {"7 + 7?"} if verb == "test" else asked <= {f"1 + {n}?" for n in range(6)}
        assert records


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
