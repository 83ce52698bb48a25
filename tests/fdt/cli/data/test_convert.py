"""`fdt data convert`: what is written says the same as what was read, and appears whole or not at all."""

import json
from dataclasses import replace

import pytest

from fdt.cli.data import convert as command
from fdt.cli.data.main import main
from fdt.errors import UserError
from feedback.readers import read

ROWS = [
    {
        "id": "a",
        "task": "t",
        "prompt": 'Which, "birds"?',
        "response": "Ducks\nand hens",
        "score": 5,
        "annotator": "kim",
    },
    {
        "id": "b",
        "task": "t",
        "prompt": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Peru?"}],
        "response": "Lima 日本",
        "critique": "<|im_end|>\u202e",
        "revision": "r",
        "source": "llm",
        "level": 3,
    },
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def left_over(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize(
    ("shape", "ending"),
    [("row", ".jsonl"), ("row", ".csv"), ("row", ".parquet"), ("episode", ".jsonl"), ("episode", ".parquet")],
)
def test_what_was_read_is_what_was_written(source, tmp_path, shape, ending, capsys):
    target = tmp_path / f"target{ending}"
    assert main(["convert", str(source), str(target), "--scale", "1", "5", "--shape", shape]) == 0
    assert f"{source} to {target}: 2 records = 2 written + 0 refused" in capsys.readouterr().out
    before, after = read(source, scale=(1, 5)), read(target)
    # Marks are written as numbers from 0 to 1, so that the scale is gone; NaN equals nothing, so texts are compared.
    before, after = (
        [replace(e, feedback=tuple(replace(item, scale=None) for item in e.feedback)) for e in part]
        for part in (before, after)
    )
    assert repr(after) == repr(before)
    assert left_over(tmp_path) == []


def test_a_fault_leaves_the_target_as_it_was(source, tmp_path, capsys):
    target, rejects = tmp_path / "target.jsonl", tmp_path / "rejects.jsonl"
    target.write_text("former")
    with source.open("a") as file:
        file.write('{"prompt": "p"}\n')
    assert main(["convert", str(source), str(target), "--scale", "1", "5", "--force"]) == 1
    captured = capsys.readouterr()
    assert "3 records = 2 readable + 1 refused; nothing was written" in captured.out
    assert f"{source}:3: response: got nothing" in captured.err
    assert target.read_text() == "former" and left_over(tmp_path) == []
    lenient = ["--force", "--lenient", "--rejects", str(rejects)]
    assert main(["convert", str(source), str(target), "--scale", "1", "5", *lenient]) == 0
    assert "2 written + 1 refused" in capsys.readouterr().out and len(read(target)) == 2
    assert json.loads(rejects.read_text())["faults"][0]["column"] == "response"


def test_nothing_is_replaced_without_force(source, tmp_path):
    target = tmp_path / "target.csv"
    target.write_text("former")
    with pytest.raises(UserError, match="Add --force"):
        main(["convert", str(source), str(target), "--scale", "1", "5"])
    assert target.read_text() == "former"
    assert main(["convert", str(source), str(target), "--scale", "1", "5", "--force"]) == 0
    assert len(read(target)) == 2


@pytest.mark.parametrize("argv", [["target.txt"], ["target"], ["none/target.csv"], ["t.csv", "--shape", "episode"]])
def test_a_target_that_cannot_be(source, tmp_path, argv):
    with pytest.raises(UserError, match="DST: "):
        main(["convert", str(source), str(tmp_path / argv[0]), *argv[1:]])


def test_what_a_row_cannot_hold_is_told_and_counted(tmp_path, capsys):
    source, target = tmp_path / "source.jsonl", tmp_path / "target.jsonl"
    messages = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    source.write_text(
        "".join(
            json.dumps({"id": name, "messages": messages[:size]}) + "\n" for name, size in (("short", 2), ("long", 4))
        )
    )
    assert main(["convert", str(source), str(target)]) == 1 and not target.exists()
    assert main(["convert", str(source), str(target), "--lenient"]) == 0
    captured = capsys.readouterr()
    assert "2 records = 1 written + 0 refused + 1 that a row cannot hold" in captured.out
    assert "long" in captured.err and [episode.id for episode in read(target)] == ["short"]


def test_a_crash_while_writing_leaves_the_target_as_it_was(source, tmp_path, monkeypatch):
    target = tmp_path / "target.jsonl"
    target.write_text("former")

    def full(part, rows):
        part.write_text(json.dumps(next(iter(rows))))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_rows", full)
    with pytest.raises(UserError, match="No space left"):
        main(["convert", str(source), str(target), "--force", "--scale", "1", "5"])
    assert target.read_text() == "former" and left_over(tmp_path) == []
