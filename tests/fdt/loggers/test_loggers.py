"""Loggers offline: grouped names, the table of answers, the report; each with its real package, or skipped."""

import csv
import json

import pytest

from fdt.errors import UserError
from fdt.loggers import TensorBoard, Trackio, WandB
from fdt.loggers.base import COLUMNS, group_names, publish_results
from tests.helpers.run_folder import HOSTILE, write_arm
from tests.helpers.runs import config, quick


@pytest.fixture
def run(tmp_path):
    folder = write_arm(tmp_path / "group" / "arm")
    (folder / "report.html").write_text("the page")
    return folder


def write_all(logger, run):
    logger.attach(run)
    logger.log_metrics({"train/loss": 0.5, "train/reward/mean": 0.25}, 3)
    publish_results([logger], run, run / "report.html")


def test_names_are_grouped_by_their_first_part():
    given = {"train/loss": 1.0, "train/loss/policy": 2.0, "val/score": 3.0, "epoch": 0.0}
    assert group_names(given) == {"train/loss": 1.0, "loss/policy": 2.0, "val/score": 3.0, "epoch": 0.0}


def test_tensorboard_holds_numbers_answers_and_the_page(run):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_all(TensorBoard(), run)
    events = reader.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(3, 0.25)]
    assert "train/loss" in events.Tags()["scalars"]
    answers = events.Tensors("answers/text_summary")[0].tensor_proto.string_val[0].decode()
    assert answers.splitlines()[0] == f"| {' | '.join(COLUMNS)} |"
    assert "improved" in answers
    assert "<script>" not in answers
    config = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "api_key: (hidden)" in config
    assert (run / "tensorboard" / "report.html").read_text() == "the page"


def test_wandb_writes_offline(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    write_all(WandB(offline=True), run)
    (folder,) = (run / "wandb").glob("offline-run-*")
    recorded = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"do-not-print" not in recorded
    (table,) = folder.glob("files/media/table/*.json")
    assert json.loads(table.read_text())["columns"] == list(COLUMNS)


def test_trackio_keeps_numbers_and_the_page(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    write_all(Trackio(project="test"), run)
    recorded = b"".join(path.read_bytes() for path in (tmp_path / "trackio").rglob("*") if path.is_file())
    assert b"reward/mean" in recorded
    assert b"the page" in recorded
    assert b"do-not-print" not in recorded


class Kept(TensorBoard):
    """Writes each number to a file of its own."""

    package = "json"

    def start(self, config):
        self.file = self._get_root() / "kept.jsonl"

    def write(self, metrics, step):
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step} | metrics) + "\n")

    def write_results(self, results):
        self.write({"answers": len(results.answers)}, -1)

    def finish(self):
        self.write({"finished": 1}, -1)


def test_every_number_of_a_run_reaches_the_second_logger_too(tmp_path):
    logger = {"class_path": f"{__name__}.Kept"}
    done = quick("fit", "-c", config(tmp_path, "on_policy", trainer__max_steps=2, trainer__logger=logger))
    assert done.returncode == 0, done.stderr[-2000:]
    kept = [json.loads(line) for line in (tmp_path / "run" / "kept.jsonl").read_text().splitlines()]
    with (tmp_path / "run" / "metrics" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = {(int(row["step"]), name) for row in rows for name, value in row.items() if value and name != "step"}
    found = {(line["step"], name) for line in kept for name in line}
    lost = {(step, name) for step, name in wanted if not found & {(step, name), (step, name.removeprefix("train/"))}}
    assert not lost and {name for _, name in wanted} >= {"val/score", "train/loss"}
    assert [line for line in kept if "finished" in line] == kept[-1:] and any("answers" in line for line in kept)


def test_a_package_that_is_missing_is_named(run):
    class Absent(TensorBoard):
        package = "no_such_package_anywhere"

    with pytest.raises(UserError, match=r"needs the package no_such_package_anywhere.*pip install"):
        Absent().attach(run)


def test_hostile_text_is_made_legible(run):
    from fdt.loggers.base import list_answers
    from fdt.report.runs import find_runs

    cells = [cell for line in list_answers(find_runs(run)) for cell in line if isinstance(cell, str)]
    assert any("<script>" in cell for cell in cells)
    assert not any(char in cell for cell in cells for char in "\x00\u202e")
    assert HOSTILE not in cells
