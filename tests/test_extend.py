"""docs/extend.md: every file of it runs in a real training step, and is as short as it says."""

import json
import re

import pytest
import yaml

from tests.helpers.paths import ROOT
from tests.helpers.runs import config, environment, quick

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
FILES = {
    name: source
    for source in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"^# (my_\w+\.py)", source)
}
OVERLAYS = {
    re.search(r"my_\w+", block)[0]: yaml.safe_load(block)
    for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}


def test_parts_are_short():
    assert set(FILES) == {
        "my_term.py",
        "my_advantage.py",
        "my_weight.py",
        "my_grader.py",
        "my_reader.py",
        "my_environment.py",
        "my_source.py",
    }
    for name, source in FILES.items():
        body = [line for line in source.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
        assert len(body) <= 30, f"{name}: {len(body)} lines"


def run(folder, *arguments, mode="on_policy", **changes):
    for name, source in FILES.items():
        (folder / name).write_text(source)
    path = config(folder, mode, trainer__max_steps=1, data__evaluation_limit=1, **changes)
    return quick("fit", "-c", str(path), *arguments, PYTHONPATH=f"{ROOT}:{folder}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OVERLAYS))
def test_a_part_of_ones_own_trains(tmp_path, name):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(yaml.safe_dump(OVERLAYS[name]))
    done = run(tmp_path, "-c", str(overlay))
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = (tmp_path / "run" / "metrics" / "version_0" / "metrics.csv").read_text()
    logged = {
        "my_term": "train/loss/doubt",
        "my_advantage": "train/taught",
        "my_weight": "train/loss/distill",
        "my_source": "train/rewards/brevity/mean",
    }
    assert logged.get(name, "train/reward/mean") in metrics


@pytest.mark.slow
def test_a_reader_of_ones_own_is_enough(tmp_path):
    rows = [
        {"Question": f"{n} + 1?", "Answer": str(n + 1), "Rating": 1 + n % 5, "Comment": "So so." if n % 2 else None}
        for n in range(12)
    ]
    (tmp_path / "survey.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    credit = {"class_path": "objectives.DatasetMean"}
    changes = {"data__file": str(tmp_path / "survey.jsonl"), "data__format": "my_reader.Survey"}
    done = run(tmp_path, mode="replay", data__credit=credit, data__heldout=0.3, **changes)
    assert done.returncode == 0, done.stderr[-2000:]
    account = json.loads((tmp_path / "run" / "accounting.json").read_text())
    assert sum(account["used"].values()) > 0
    assert environment()["PYTHONPATH"] == str(ROOT)


@pytest.mark.slow
def test_an_environment_of_ones_own_is_enough(tmp_path):
    done = run(
        tmp_path,
        data__environment={"class_path": "my_environment.Guess", "init_args": {"limit": 40}},
        data__limits={"tasks": 4, "heldout": 2, "max_turns": 2},
        data__file=None,
        data__hint=None,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    records = [json.loads(line) for line in (tmp_path / "run" / "transcripts.jsonl").open()]
    assert records and all(record["score"] in (0.0, 1.0) for record in records)
