"""The main job in its two-step form, on the default model and the bundled file, by both ways of using two devices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.runs import fdt

SHORT = (
    "--trainer.max_steps=2",
    "--trainer.enable_progress_bar=false",
    "--data.evaluation_limit=5",
    "--data.engine.init_args.max_new_tokens=12",
)


@pytest.fixture(autouse=True)
def _default_model() -> None:
    from fdt.policy.hub import DEFAULT, get_cache_root

    if not (get_cache_root() / DEFAULT).exists():
        pytest.skip(f"the default model is not in {get_cache_root()}; `fdt model` fetches it")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("devices", "arms"), [("trainer/ddp", ["replay"]), ("trainer/fsdp2", ["on_policy"])], ids=["ddp", "fsdp2"]
)
def test_two_steps_on_two_devices(devices: str, arms: list[str], tmp_path: Path) -> None:
    root = tmp_path / "run"
    options = (f"--arms=[{', '.join(arms)}]", f"--trainer.default_root_dir={root}")
    done = fdt("fit", "-c", "quickstart", "-c", devices, *SHORT, *options, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    for arm in arms:
        for name in ("base", "last"):
            records = [json.loads(line) for line in (root / arm / "eval" / f"{name}.jsonl").read_text().splitlines()]
            assert len({record["id"] for record in records}) == len(records) == 5
        account = json.loads((root / arm / "accounting.json").read_text())
        assert account["rows"] == 256 == sum(account["used"].values()) + sum(account["dropped"].values())
    table = (root / "table.json").read_text()
    assert all(f'"{arm}"' in table for arm in arms)
    assert (root / "report.html").stat().st_size > 10_000
    assert list((root / "figures").glob("*.png"))
