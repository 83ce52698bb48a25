"""`fdt data check`: what it prints, what it writes, how it exits, and what it costs."""

import json
import os
import pty
import subprocess
import sys
import tracemalloc

import pytest

from fdt.cli import progress
from fdt.cli.data import check as command
from fdt.cli.data.main import main
from fdt.errors import UserError

GOOD = '{"id": "a", "prompt": "p", "response": "r", "score": 1}\n'
HEAVY = {"torch", "lightning", "datasets", "transformers"}


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(
        GOOD.encode() + b'\n{"id": "b", "score": NaN}\n\xff\n{"id": "a", "prompt": "p", "response": "r"}\n'
    )
    return path


def test_a_sound_file(tmp_path, capsys):
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD)
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "1 records = 1 loaded + 0 refused" in out and "  prompts: 1\n  scored: 1\n  with critique: 0" in out


def test_all_faults_are_listed_with_their_lines(bad, capsys):
    assert main(["check", str(bad)]) == 1
    out = capsys.readouterr().out.splitlines()
    places = [line.split(": ")[:2] for line in out[:5]]
    assert places == [[f"{bad}:3", name] for name in ("prompt", "response", "score")] + [
        [f"{bad}:4", "record"],
        [f"{bad}:5", "id"],
    ]
    assert out[5] == f"{bad}: 4 records = 1 loaded + 3 refused"


def test_for_machines(bad, capsys):
    assert main(["check", str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["records"], found["loaded"], found["refused"]) == (4, 1, 3)
    assert found["faults"][2] == {
        "file": str(bad),
        "line": 3,
        "column": "score",
        "reason": "got nan, expected a finite number. Leave it out where there is no score.",
    }
    assert main(["check", str(bad) + "x", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["faults"][0]["column"] == "file" and found["records"] == 0


def test_a_sound_file_for_machines(tmp_path, capsys):
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD)
    assert main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"faults": [], "records": 1, "loaded": 1, "refused": 0}


def test_lenient_keeps_the_rest_and_writes_the_rejects(bad, tmp_path):
    out = tmp_path / "rejects.jsonl"
    assert main(["check", str(bad), "--lenient", "--rejects", str(out)]) == 0
    rejects = [json.loads(line) for line in out.read_text().splitlines()]
    assert [fault["column"] for fault in rejects[0]["faults"]] == ["prompt", "response", "score"]
    assert rejects[0]["raw"] == '{"id": "b", "score": NaN}\n' and rejects[1]["raw_base64"] == "/wo="


def test_rejects_need_lenient_and_a_file_of_their_own(bad, tmp_path):
    with pytest.raises(UserError, match="--rejects: no --lenient"):
        main(["check", str(bad), "--rejects", str(tmp_path / "out")])
    before = bad.read_bytes()
    with pytest.raises(UserError, match="the file that is read"):
        main(["check", str(bad), "--lenient", "--rejects", str(bad)])
    assert bad.read_bytes() == before
    with pytest.raises(UserError, match="cannot be written"):
        main(["check", str(bad), "--lenient", "--rejects", str(tmp_path / "none" / "out")])


def test_lenient_with_nothing_left_fails(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": "b"}\n')
    assert main(["check", str(path), "--lenient"]) == 1


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


def test_no_terminal_obeys_what_a_file_holds(tmp_path, capsys):
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": "\\u001b]0;owned\\u0007", "prompt": "p"}\n{"\\u001b[2J": 1, "id": ["\\n[red]x"]}\n')
    main(["check", str(path)])
    main(["stats", str(path)])
    captured = capsys.readouterr()
    told = captured.out + captured.err
    assert "\x1b" not in told and "\x07" not in told
    assert "\\n[red]x" in told  # neither a line of its own nor markup


def test_memory_does_not_grow_with_faults_or_prompts(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "COUNTED_PROMPTS", 100)
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)
        peaks = []
        for rows in (2_000, 20_000):
            path = tmp_path / f"{rows}.jsonl"
            path.write_text(
                "".join(
                    f'{{"prompt": "p{n}", "score": "x"}}\n{{"prompt": "q{n}", "response": "r"}}\n' for n in range(rows)
                )
            )
            tracemalloc.start()
            main(["check", str(path), "--json"])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 4e6, peaks  # 18,000 faults kept would be more than 20 MB


@pytest.mark.parametrize("argv", [["check"], ["convert"], ["stats"], ["check", "--help"], ["--help"]])
def test_it_loads_no_heavy_library(bad, tmp_path, argv):
    argv = (
        argv if "--help" in argv else [*argv, str(bad), *([str(tmp_path / "o.jsonl")] if argv == ["convert"] else [])]
    )
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fdt", "data", *argv], capture_output=True, text=True
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "fdt.cli.reading" in imported and not HEAVY & imported


def test_a_bar_on_a_terminal_for_long_files_alone(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text('{"prompt": "p", "response": "r"}\n' * 5_000)
    script = (
        "import sys; from fdt.cli import progress; progress.LONG = int(sys.argv[2]); "
        "from fdt.cli.data.main import main; main(['check', sys.argv[1]])"
    )
    seen = {}
    for least in (1000, 10**9):
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-c", script, str(path), str(least)], stdout=subprocess.PIPE, stderr=theirs, text=True
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        try:
            seen[least] = os.read(ours, 1 << 20)
        except (BlockingIOError, OSError):
            seen[least] = b""
        os.close(ours)
        assert "5000 records = 5000 loaded" in done.stdout
    assert b"5,000 records" in seen[1000] and seen[10**9] == b""


def test_the_number_of_records_is_estimated(tmp_path):
    from feedback.writers import write_rows

    rows = [{"prompt": "p", "response": "r" * 100}] * 300
    for name in ("f.jsonl", "f.parquet"):
        write_rows(tmp_path / name, rows)
        assert progress.estimate_records(tmp_path / name) == 300


def test_columns_that_are_only_notes_are_named(tmp_path, capsys):
    row = {"prompt": "p", "response": "a", "score": 1, "topic": "birds", "place": "c", "tools": []}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["check", str(tmp_path / "f.jsonl")]) == 0
    assert "kept as notes, not read as prompt or feedback: 'topic', 'place'\n" in capsys.readouterr().out


def test_critiques_that_stand_for_none_are_counted(tmp_path, capsys):
    (tmp_path / "f.csv").write_text("prompt,response,critique\np,a,N/A\np,b,nan\np,c,Too long.\n")
    assert main(["check", str(tmp_path / "f.csv")]) == 0
    assert "  with critique: 3\n" in (told := capsys.readouterr().out)
    assert "words that say nothing, such as nan: 2; leave them empty" in told
