"""The run folder of two arms that the tests of this folder share."""

from pathlib import Path

import pytest

from fdt.report import write_report
from tests.helpers.run_folder import write_arm


def two_arms(folder: Path) -> Path:
    """Two arms side by side: one that learned, one that did not."""
    write_arm(folder / "on-policy")
    write_arm(folder / "replay", solved=14, seed=1, lr=1e-4)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run of two arms, the test's own."""
    return two_arms(tmp_path / "run")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two arms with its report; shared, so only to be read."""
    folder = two_arms(tmp_path_factory.mktemp("written") / "run")
    write_report(folder)
    return folder
