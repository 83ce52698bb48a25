"""Whatever the files hold, the report says what it can and nothing raises; and none of it needs torch."""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fdt.report.page import render
from fdt.report.panels.calibration import compute_calibrations
from fdt.report.panels.ledger import build_ledger
from fdt.report.panels.samples import select_samples
from fdt.report.panels.trends import add_trends
from fdt.report.runs import find_runs, read_run
from fdt.report.table import build_table
from tests.helpers.run_folder import write_arm, write_lines

# A page takes a tenth of a second: shrinking a failure would take minutes.
QUICK = [Phase.explicit, Phase.reuse, Phase.generate]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
EVALUATION = st.dictionaries(
    st.sampled_from(["id", "prompt", "response", "score", "scores", "confidence", "tokens", "nll_sum"]),
    VALUES,
    max_size=7,
)
TOKEN = st.dictionaries(
    st.sampled_from(["text", "logp", "teacher_logp", "advantage", "signal/", "signal/policy", "signal/<b>"]),
    VALUES,
    max_size=5,
)
TRANSCRIPT = st.dictionaries(
    st.sampled_from("step id prompt response critique critique_by revision_status advantage coefficients".split()),
    VALUES,
    max_size=7,
).flatmap(lambda record: st.lists(TOKEN, max_size=2).map(lambda tokens: {**record, "tokens": tokens}))


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """A folder whose files the examples replace."""
    return write_arm(tmp_path_factory.mktemp("arm") / "arm")


@settings(max_examples=25, deadline=None, phases=QUICK, suppress_health_check=[HealthCheck.too_slow])
@given(
    base=st.lists(EVALUATION, max_size=3),
    last=st.lists(EVALUATION, max_size=3),
    trained=st.lists(TRANSCRIPT, max_size=3),
    account=st.dictionaries(st.sampled_from(["rows", "used", "dropped", "rewrites", "file", "judges"]), VALUES),
)
def test_records_of_any_shape_make_a_page(arm, base, last, trained, account):
    write_lines(arm / "eval/base.jsonl", base)
    write_lines(arm / "eval/last.jsonl", last)
    write_lines(arm / "transcripts.jsonl", trained)
    write_lines(arm / "accounting.json", [account])
    runs = [add_trends(run) for run in find_runs(arm)]
    table = build_table(runs)
    assert table.as_json()
    assert select_samples(runs)
    assert build_ledger(runs[0]).line
    assert render("any", runs, table, {}, compute_calibrations(runs)).encode("utf-8")


@settings(max_examples=50, deadline=None, phases=QUICK)
@given(
    name=st.sampled_from(["config.yaml", "accounting.json", "eval/last.jsonl", "metrics/version_1/metrics.csv"]),
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
)
def test_bytes_of_any_kind_are_read_or_reported(arm, name, content):
    kept = (arm / name).read_bytes()
    (arm / name).write_bytes(content)
    run = read_run(arm)
    assert list(run.read_transcripts()) is not None
    (arm / name).write_bytes(kept)


def test_neither_verb_loads_torch(root):
    code = (
        "import sys; from fdt.report import main; "
        f"main(['compare', {str(root)!r}]); main(['report', {str(root)!r}]); "
        "print('heavy:', sorted({'torch', 'transformers', 'lightning', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "heavy: []" in result.stdout
