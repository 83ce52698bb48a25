"""What is held out is not trained on, and which prompts these are depends on the seed."""

import json

import pytest

from fdt.data.splits import load_from_file
from fdt.errors import UserError


@pytest.fixture
def file(tmp_path):
    rows = [{"prompt": f"p{n // 2}", "response": f"r{n}", "score": n % 2} for n in range(80)]
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_no_held_out_prompt_is_trained_on(file):
    found = load_from_file(file, "auto", None, 0.25, 0)
    trained = {episode.task.key for episode in found.episodes}
    held = {task.key for task in found.heldout}
    assert not trained & held and len(trained | held) == 40
    assert len(found.episodes) == 2 * len(trained) and found.record_count == 80
    assert found.test() == found.heldout


def test_another_seed_holds_out_others(file):
    held = [{task.key for task in load_from_file(file, "auto", None, 0.25, seed).heldout} for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_both_sides_have_prompts(file, share):
    with pytest.raises(UserError, match=r"data.heldout: got"):
        load_from_file(file, "auto", None, share, 0)
