"""A folder of shards is data: whatever lies in it, reading it runs nothing."""

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from fdt.errors import UserError
from fdt.policy.loading.shards import CONTENTS, fill, read_plain, write_contents


class Planted:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def save(folder: Path, **more) -> Path:
    dcp.save({"w": torch.arange(6.0), "group": {"lr": 0.5, "betas": (0.9, 0.99)}, **more}, checkpoint_id=folder)
    write_contents(folder)
    return folder


def replace_file(path: Path, content: object) -> None:
    with path.open("wb") as file:
        torch.save(content, file)


def build() -> dict:
    return {"w": torch.zeros(6), "group": {"lr": 0.0, "betas": (0.0, 0.0)}}


def test_tensors_and_numbers_come_back_without_torchs_own_list(tmp_path):
    folder = save(tmp_path / "shards").rename(tmp_path / "moved")
    (folder / ".metadata").unlink()
    found = build()
    fill(found, folder)
    assert found["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["group"] == {"lr": 0.5, "betas": (0.9, 0.99)}


@pytest.mark.parametrize("place", ["contents", "list of torch", "entry"])
def test_nothing_in_a_folder_runs(place, tmp_path):
    planted = Planted(tmp_path / "ran")
    folder = save(tmp_path / "shards", **({"x": planted} if place == "entry" else {}))
    found = build() | ({"x": None} if place == "entry" else {})
    if place == "list of torch":  # never read
        replace_file(folder / ".metadata", planted)
        fill(found, folder)
    else:
        if place == "contents":
            replace_file(folder / CONTENTS, planted)
        with pytest.raises(UserError, match="not a readable checkpoint"):
            fill(found, folder)
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_our_list_is_refused(tmp_path):
    with pytest.raises(UserError, match="contents.pt: not a readable checkpoint"):
        read_plain(save(tmp_path / "shards") / "none" / CONTENTS)
    (tmp_path / "shards" / CONTENTS).unlink()
    with pytest.raises(UserError, match="not a readable checkpoint"):
        fill(build(), tmp_path / "shards")
