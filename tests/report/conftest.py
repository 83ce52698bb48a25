"""The run folder of two arms that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.report.run_folder import write_arm


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two arms side by side."""
    write_arm(tmp_path / "run" / "on-policy")
    write_arm(tmp_path / "run" / "replay", solved=14, seed=1, lr=1e-4)
    return tmp_path / "run"
