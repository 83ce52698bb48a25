"""What a built wheel carries: the three packages, configs, samples and prompts, and nothing of the workshop."""

import email
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(target.glob("*.whl")))


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_top_level_is_the_three_packages(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fdt", "feedback", "objectives"}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("configs", "fdt/configs"),
        ("fdt/bundled", "fdt/bundled"),
        ("fdt/report/assets", "fdt/report/assets"),
        ("fdt/report/sections", "fdt/report/sections"),
        ("feedback/samples", "feedback/samples"),
        ("feedback/prompts", "feedback/prompts"),
    ],
)
def test_data_files_are_all_there(wheel, source, target):
    packed = {name.removeprefix(target + "/") for name in wheel.namelist() if name.startswith(target + "/")}
    assert packed == files_below(ROOT / source)
    assert packed


def test_packages_are_marked_as_typed(wheel):
    assert {f"{package}/py.typed" for package in ("fdt", "feedback", "objectives")} <= set(wheel.namelist())


def test_kinds_of_the_reference_are_there(wheel):
    assert "fdt/cli/reference/kinds.yaml" in wheel.namelist()


def test_no_test_notebook_or_cache_is_installed(wheel):
    workshop = ("test_", "conftest", ".ipynb", ".pyc", "notebooks/", "tests/")
    assert [name for name in wheel.namelist() if any(part in name for part in workshop)] == []


def test_metadata_names_the_command_and_the_licence(wheel):
    folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    metadata = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["Name"] == "feedback-distillation-trainer"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "fdt = fdt.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()


def test_unpacked_wheel_finds_its_configs_outside_the_clone(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "fdt", "configs"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines()}
    assert names == {name.removesuffix(".yaml") for name in files_below(ROOT / "configs") if name.endswith(".yaml")}
