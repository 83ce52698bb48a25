"""A JSON list on one line, as `json.dump` and pandas write it: each element is a record with a place of its own."""

import json

from fdt.cli.reading import as_json
from feedback.readers import read_with_report

ROWS = [{"prompt": f"{n}?", "response": str(n), "score": n / 4} for n in range(5)]


def write(path, rows, **options):
    path.write_text(json.dumps(rows, **options))
    return path


def test_every_element_of_a_line_is_read(tmp_path):
    episodes, refused = read_with_report(write(tmp_path / "f.json", ROWS))
    assert not refused and [episode.response for episode in episodes] == list("01234")
    assert [episode.id for episode in episodes] == ["line-1", "line-1.1", "line-1.2", "line-1.3", "line-1.4"]


def test_a_list_over_lines_keeps_its_lines_as_ids(tmp_path):
    episodes, _ = read_with_report(write(tmp_path / "f.json", ROWS, indent=1))
    assert [episode.id for episode in episodes] == [f"line-{2 + 5 * n}" for n in range(5)]


def test_a_fault_names_the_element(tmp_path):
    rows = [*ROWS[:3], ROWS[3] | {"score": "high"}, 7, ROWS[4] | {"score": None, "response": 3}]
    episodes, refused = read_with_report(write(tmp_path / "f.json", rows), lenient=True)
    assert len(episodes) == 3
    assert [str(fault).removeprefix(f"{tmp_path}/").partition(": got")[0] for fault in refused] == [
        "f.json:1 item 4: score",
        "f.json:1 item 5: record",
        "f.json:1 item 6: response",
    ]
    assert as_json(refused[0])["item"] == 4
