"""`fdt data check`: what it prints, what it writes, and how it exits."""

import json
import subprocess
import sys

import pytest

from fdt.data_commands import main

GOOD = '{"id": "a", "prompt": "p", "response": "r", "score": 1}\n'


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"id": "b", "score": NaN}\n\xff\n{"id": "a", "prompt": "p", "response": "r"}\n')
    return path


def test_a_sound_file(tmp_path, capsys):
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD)
    assert main(["check", str(path)]) == 0
    assert "1 records = 1 loaded + 0 refused" in capsys.readouterr().out


def test_all_faults_are_listed_with_their_lines(bad, capsys):
    assert main(["check", str(bad)]) == 1
    out = capsys.readouterr().out.splitlines()
    places = [line.split(": ")[:2] for line in out[:5]]
    assert places == [[f"{bad}:3", name] for name in ("prompt", "response", "score")] + [
        [f"{bad}:4", "record"], [f"{bad}:5", "id"]]
    assert out[5] == f"{bad}: 4 records = 1 loaded + 3 refused"


def test_for_machines(bad, capsys):
    assert main(["check", str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["loaded"], found["refused"]) == (4, 1, 3)
    assert found["faults"][2] == {"file": str(bad), "line": 3, "column": "score", "reason":
                                  "got nan, expected a finite number. Leave it out where there is no score."}
    assert main(["check", str(bad) + "x", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"][0]["column"] == "file"


def test_lenient_keeps_the_rest_and_writes_the_rejects(bad, tmp_path):
    out = tmp_path / "rejects.jsonl"
    assert main(["check", str(bad), "--lenient", "--rejects", str(out)]) == 0
    rejects = [json.loads(line) for line in out.read_text().splitlines()]
    assert [fault["column"] for fault in rejects[0]["faults"]] == ["prompt", "response", "score"]
    assert rejects[0]["raw"] == '{"id": "b", "score": NaN}\n' and rejects[1]["raw_base64"] == "/wo="
    assert main(["check", str(bad), "--rejects", str(out)]) == 2


def test_a_scale_is_declared(tmp_path, capsys):
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD.replace('"score": 1', '"score": 4'))
    assert main(["check", str(path)]) == 1 and "Declare the scale" in capsys.readouterr().out
    assert main(["check", str(path), "--scale", "1", "5"]) == 0
    assert main(["check", str(path), "--scale", "5", "1"]) == 1


def test_rows_of_parquet_count_from_0(tmp_path, capsys):
    from feedback.writers import write_rows

    write_rows(tmp_path / "f.parquet", [{"prompt": "p", "response": "r"}, {"prompt": "p"}])
    assert main(["check", str(tmp_path / "f.parquet"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"][0]["row"] == 1


def test_it_loads_no_heavy_library(bad):
    code = ("import sys; from fdt.data_commands import main; main(['check', sys.argv[1]]); "
            "print(sorted({'torch', 'lightning', 'datasets', 'transformers', 'pyarrow'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code, str(bad)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
