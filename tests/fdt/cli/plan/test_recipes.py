"""The recipes of docs/scaling.md fit where the page says that they do, by the plan of their own text."""

import json
import re
from pathlib import Path

import pytest

from fdt.__main__ import main
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.fixture
def write_recipe(seven: str, tmp_path: Path):
    """Writes the first YAML below a heading, with the shape of 7B as its base."""

    def write(heading: str) -> Path:
        block = re.search(r"^```yaml\n(.*?)^```", PAGE.partition(f"## {heading}\n")[2], re.MULTILINE | re.DOTALL)
        path = tmp_path / "recipe.yaml"
        path.write_text(block[1].replace("Qwen/Qwen2.5-7B-Instruct", seven))
        return path

    return write


def plan(capsys, path: Path, *options: str) -> str:
    assert main(["plan", "-c", str(path), "--prompt-tokens=500", "--answer-tokens=1000", *options]) == 0
    return capsys.readouterr().out


def test_adapters_of_7b_fit_one_card_whatever_this_machine_multiplies_fast(write_recipe, capsys, monkeypatch):
    monkeypatch.setattr("fdt.policy.policy.has_native_bfloat16", lambda: False)
    assert "\nfits:" in plan(capsys, write_recipe("One card of 24 GB"), "--card=rtx4090")


def test_all_weights_of_7b_fit_eight_cards_beside_a_server(write_recipe, capsys):
    path = write_recipe("Eight cards of 80 GB: FSDP2 and vLLM")
    assert "\nfits:" in plan(capsys, path, "--card=h100")
    apart = "--model.optimizer=fdt.policy.optimizers.SignalAdamW"
    assert "does not fit:" in plan(capsys, path, "--card=h100", apart)
    assert "\nfits:" in plan(capsys, path, "--card=h100", apart, "--trainer.devices=16")
    said = re.search(r"7B (\d+) GB a card of eight, .*? (\d+) GB on sixteen", PAGE, re.DOTALL)
    for devices, number in ((8, said[1]), (16, said[2])):
        found = json.loads(plan(capsys, path, apart, f"--trainer.devices={devices}", "--json"))
        assert max(found["peaks"].values()) / 1e9 == pytest.approx(int(number), abs=1)
