"""Where a run comes from, as the page says it; nothing secret in it."""

import json

import pytest

from fdt.report.panels.provenance import build_provenance, hide_in_command
from fdt.report.runs import read_run
from tests.helpers.run_folder import write_arm


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("fdt fit --a.api_key=sk-1 --b 2", "fdt fit --a.api_key=(hidden) --b 2"),
        ("fdt fit --a.api-key sk-1 --b 2", "fdt fit --a.api-key (hidden) --b 2"),
        ("fdt fit --data.max_tokens 512", "fdt fit --data.max_tokens 512"),
        ("fdt fit --url https://me:pw@host/v1", "fdt fit --url https://(hidden)@host/v1"),
    ],
)
def test_a_command_keeps_no_secret(command, shown):
    assert hide_in_command(command) == shown


def test_facts_of_each_start_and_of_the_whole(tmp_path):
    arm = write_arm(tmp_path / "arm")
    starts = [{"started": when, "data": {"f.jsonl": "abc"}, "machine": {"cores": 2}} for when in ("one", "two")]
    (arm / "run.json").write_text(json.dumps(starts))
    (arm / "log.txt").write_text("2026-01-01T10:00:00+00:00 step 1\n2026-01-01T10:30:00+00:00 step 2\n")
    facts = dict(build_provenance(read_run(arm)).facts)
    assert facts["started, start 2"] == "two"
    assert facts["data, SHA-256, start 1"] == "f.jsonl: abc"
    assert facts["machine, start 1"] == "2 cores"
    assert facts["seeds"] == "seed_everything 1"
    assert facts["wall time"].startswith("30.0 minutes")
    assert facts["in training steps"] == "1.2 minutes"  # twelve steps of six seconds


def test_a_run_without_a_record_has_none(tmp_path):
    assert build_provenance(read_run(write_arm(tmp_path / "arm"))).facts == []
