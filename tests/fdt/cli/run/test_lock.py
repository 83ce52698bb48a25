"""One run a folder."""

import pytest

from fdt.cli.run.lock import lock_folder, release_folders
from fdt.errors import UserError


def test_a_folder_in_use_is_refused_until_it_is_released(tmp_path):
    try:
        lock_folder(tmp_path / "run")
        with pytest.raises(UserError, match="another run is writing to this folder"):
            lock_folder(tmp_path / "run")
        lock_folder(tmp_path / "other")
        release_folders()
        lock_folder(tmp_path / "run")
    finally:
        release_folders()
