"""Checkpoints on disk: whole or not at all, listed, checked, and the newest whole one found."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fdt import checkpoint_files as files
from fdt.callbacks.checkpoint import AtomicCheckpointIO, prepare_folder
from fdt.errors import UserError
from tests.helpers.paths import ROOT


def save(folder: Path, step: int, size: int = 1000) -> Path:
    path = folder / f"step-{step}.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": step, "w": torch.full((size,), float(step))}, path)
    return path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_what_was_written_is_listed_and_whole(tmp_path):
    paths = [save(tmp_path, step) for step in (1, 2, 10)]
    assert [path.name for path in files.list_checkpoints(tmp_path)] == ["step-10.ckpt", "step-2.ckpt", "step-1.ckpt"]
    listed = json.loads((tmp_path / "manifest.json").read_text())["checkpoints"]
    assert [entry["step"] for entry in listed] == [1, 2, 10]
    assert all(files.find_damage(path) is None for path in paths)
    assert not list(tmp_path.glob(".*"))


def test_every_flipped_bit_is_caught_and_the_one_before_is_used(tmp_path, capsys):
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    whole = newest.read_bytes()
    choose = random.Random(0)
    for place in [0, len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(40))]:
        newest.write_bytes(whole)
        flip(newest, place)
        assert files.find_damage(newest) is not None, place
    assert files.find_newest(tmp_path) == before
    told = capsys.readouterr().err
    assert "step-2.ckpt: its SHA-256 is" in told and "Going on from step-1.ckpt" in told
    with pytest.raises(UserError, match=r"step-2.ckpt: ckpt_path: damaged.*--ckpt_path .*step-1.ckpt"):
        AtomicCheckpointIO().load_checkpoint(newest, weights_only=True)
    flip(before, 500)
    with pytest.raises(UserError, match="start afresh, or bring back a copy|Start afresh"):
        files.find_newest(tmp_path)


def test_a_checkpoint_without_a_manifest_is_held_against_its_own_sums(tmp_path):
    path = save(tmp_path, 1)
    (tmp_path / "manifest.json").unlink()
    assert files.find_damage(path) is None
    middle = path.read_bytes().index(torch.full((1,), 1.0).numpy().tobytes() * 50)
    flip(path, middle)
    assert "another sum" in files.find_damage(path)
    path.write_bytes(path.read_bytes()[: middle + 9])
    assert "cannot be read" in files.find_damage(path)


def test_a_whole_file_that_would_run_code_is_one_message(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Payload()}, tmp_path / "theirs.ckpt")
    assert files.find_damage(tmp_path / "theirs.ckpt") is None
    with pytest.raises(UserError, match="theirs.ckpt: not a readable checkpoint: got 'Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "theirs.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_manifest_is_told_and_written_anew(tmp_path, capsys):
    path = save(tmp_path, 1)
    (tmp_path / "manifest.json").write_text("{")
    assert files.find_newest(tmp_path) == path
    newer = save(tmp_path, 2)
    assert files.find_newest(tmp_path) == newer
    assert "checked by its own sums" in capsys.readouterr().err


def test_two_names_of_one_checkpoint_are_one(tmp_path):
    path = save(tmp_path, 1)
    assert files.link_checkpoint(path, tmp_path / "last.ckpt")
    assert files.list_checkpoints(tmp_path) == [path] or files.list_checkpoints(tmp_path) == [tmp_path / "last.ckpt"]
    assert files.find_damage(tmp_path / "last.ckpt") is None


def test_folders_of_shards_are_linked_hashed_and_replaced(tmp_path):
    folder = tmp_path / "step-1.ckpt"
    part = files.name_part(folder)
    (part / "deep").mkdir(parents=True)
    (part / "deep" / "0.distcp").write_bytes(b"shard")
    files.finish_folder(part, folder, 1)
    assert files.find_damage(folder) is None
    for _ in range(2):  # the second time takes the first one's place
        assert files.link_checkpoint(folder, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt/deep/0.distcp").samefile(folder / "deep/0.distcp")
    assert len(files.list_checkpoints(tmp_path)) == 1 and not list(tmp_path.glob(".*"))
    (folder / "deep" / "0.distcp").write_bytes(b"shart")
    assert files.find_damage(folder) is not None


WRITE = """
import sys, torch
from pathlib import Path
from fdt.callbacks.checkpoint import AtomicCheckpointIO
io = AtomicCheckpointIO()
print("ready", flush=True)
step = 0
while True:
    step += 1
    state = {"global_step": step, "w": torch.full((400_000,), float(step))}
    io.save_checkpoint(state, Path(sys.argv[1]) / f"step-{step % 3}.ckpt")
"""


def kill_in_a_save(folder: Path, waits: random.Random) -> None:
    """Starts a process that saves without end, and kills it at a random moment."""
    folder.mkdir(parents=True)
    run = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(folder)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.stdout is not None and run.stdout.readline() == b"ready\n"
    time.sleep(0.05 + waits.random() * 0.2)
    run.send_signal(signal.SIGKILL)
    run.communicate()


@pytest.mark.slow
def test_kills_in_a_save_leave_nothing_that_looks_whole_and_is_not(tmp_path):
    for number in range(2):
        kill_in_a_save(tmp_path / str(number), random.Random(number))
        check_after_kill(tmp_path / str(number))


def check_after_kill(folder: Path) -> None:
    """Every name holds a whole checkpoint, and loads."""
    found = files.list_checkpoints(folder)
    assert found
    for path in found:
        assert files.find_damage(path) is None
        content = AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
        assert (content["w"] == float(content["global_step"])).all()


def test_a_full_disk_is_loud_and_leaves_what_was_there(tmp_path):
    before = save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UserError, match=r"step-2.ckpt: a checkpoint cannot be written: got .*File too large"):
            save(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.find_newest(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "step-1.ckpt"]


def test_a_full_file_system_is_loud(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        before = save(place, 1)
        with pytest.raises(UserError, match="No space left"):
            save(place, 2, size=200_000)
        assert files.find_newest(place) == before and not list(place.glob(".*"))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_folder_that_may_not_be_written_to_is_refused_before_training(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    if os.geteuid() == 0:  # root may write anywhere; a file in the folder's place stops it too
        folder.rmdir()
        folder.write_text("")
    with pytest.raises(UserError, match="checkpoints: a checkpoint cannot be written"):
        prepare_folder(folder)


def test_the_start_of_a_run_removes_what_a_kill_left(tmp_path):
    (tmp_path / ".step-1.ckpt.99.part").write_bytes(b"half")
    (tmp_path / ".last.ckpt.99.old.part").mkdir()
    prepare_folder(tmp_path)
    assert not list(tmp_path.iterdir())
