"""Notebooks run from top to bottom, draw their figures, and their two forms hold the same cells."""

from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
FIGURES = {
    "101_two_signals": 2,
    "102_your_feedback_file": 2,
    "201_reward_and_distillation": 2,
    "202_one_answer_token_by_token": 3,
    "203_calibration": 3,
    "301_multi_turn_credit": 3,
    "302_your_objective": 2,
}


def cells(path: Path, kind: str) -> list[str]:
    return [cell.source.strip() for cell in jupytext.read(path).cells if cell.cell_type == kind]


@pytest.fixture
def _kernel_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The kernel is a process of its own: it finds the packages of this checkout and leaves no files here.
    for name, value in {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }.items():
        monkeypatch.setenv(name, value)


def test_there_are_notebooks():
    assert set(FIGURES) <= {path.stem for path in SCRIPTS}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("_kernel_here")
def test_runs_and_draws(script: Path):
    notebook = jupytext.read(script)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) == FIGURES.get(script.stem, len(drawn))
    assert not [output for output in outputs if output.get("name") == "stderr"], "a notebook prints no warnings"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_agree(script: Path):
    paired = script.with_suffix(".ipynb")
    assert paired.is_file(), f"missing: jupytext --to ipynb {script}"
    for kind in ("code", "markdown"):
        assert cells(paired, kind) == cells(script, kind), f"{kind} differs: jupytext --sync {script}"
