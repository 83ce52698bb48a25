"""`fdt critique`: it fills in what is missing, keeps what is there, counts what stays open, and pays once."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fdt.__main__ import main
from fdt.cli.plugs import load_grader, split_flags
from fdt.errors import UserError
from fdt.resources import list_configs
from feedback.graders import GraderChain, Judge
from feedback.readers import read
from tests.helpers.runs import ROOT, environment
from tests.helpers.servers import Call, Server, completion, fault

ROWS = [
    {"id": "a", "prompt": "1 + 1?", "response": "3"},
    {"id": "b", "prompt": "1 + 1?", "response": "2", "score": 1.0, "annotator": "ann"},
    {"id": "c", "prompt": "2 + 2?", "response": "5", "score": 0.5, "critique": "Too high.", "annotator": "ann"},
]


def answer(call: Call):
    if call.prompt.startswith("You correct"):
        return completion(json.dumps({"revision": "mended"}))
    return completion(json.dumps({"analysis": "", "critique": "Count again.", "score": 4}))


@pytest.fixture
def critique(tmp_path, monkeypatch, capsys):
    """Runs the command on the rows with a shipped judge; gives the exit code, the output and the errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(server: Server, *arguments: str, judge: str = "judge/local") -> tuple[int, str, str]:
        config = tmp_path / "judge.yaml"
        whole = yaml.safe_load((ROOT / "configs" / f"{judge}.yaml").read_text())
        config.write_text(yaml.safe_dump(whole).replace("http://127.0.0.1:8000/v1", server.url))
        code = main(["critique", "rows.jsonl", "--judge", str(config), "--out", "out.jsonl", *arguments])
        return code, *capsys.readouterr()

    return run


def test_only_what_is_missing_is_added(critique):
    """4 on 1 to 10 is 1/3. Row c has score and critique, so nobody is asked about it."""
    with Server(answer) as server:
        code, out, _ = critique(server)
        assert code == 0 and len(server.calls) == 2
    a, b, c = read("out.jsonl", aggregate="each")
    assert a.score == pytest.approx(1 / 3) and a.critique == "Count again."
    assert (
        b.score == 1.0
        and b.critique == "Count again."
        and [item.annotator for item in b.feedback] == ["ann", "my-judge"]
    )
    assert math.isnan(b.feedback[1].score)
    assert (c.score, c.critique) == (0.5, "Too high.")
    assert "scores: 3 (1 new)" in out and "critiques: 3 (2 new)" in out and "2 calls and 30 tokens so far" in out


def test_corrections_follow_the_critiques_that_were_just_written(critique):
    with Server(answer) as server:
        code, out, _ = critique(server, judge="judge/revise")
        assert code == 0 and len(server.calls) == 5 and "revisions: 3 (3 new)" in out
    a, _, c = read("out.jsonl", aggregate="each")
    assert a.revision == c.revision == "mended"
    assert len(a.feedback) == 1  # score, critique and revision of one judge are one judgement


def test_the_second_run_asks_for_nothing_and_writes_the_same(critique, tmp_path):
    with Server(answer) as server:
        critique(server)
        first = (tmp_path / "out.jsonl").read_bytes()
        assert "exists" in critique(server)[2]
        assert critique(server, "--force")[0] == 0
        assert len(server.calls) == 2 and (tmp_path / "out.jsonl").read_bytes() == first


def test_a_dry_run_prices_and_sends_nothing(critique, tmp_path):
    """Two judgements and three corrections; the reply is at most 1024 tokens of a judge, 2048 of a corrector."""
    with Server(answer) as server:
        code, out, _ = critique(server, "--dry-run", judge="judge/revise")
        assert code == 0 and not server.calls and not (tmp_path / "out.jsonl").exists()
    judge, corrector = out.splitlines()[1:]
    assert judge.startswith("PointwiseJudge at my-judge: 2 rows, 2 replies, 0 of them kept or equal, 2 calls, about ")
    assert "up to 2048 written" in judge and "3 calls" in corrector and "up to 6144 written" in corrector


def test_what_cannot_be_read_stays_open_and_is_counted(critique):
    with Server(lambda call: completion("I like it: 10/10") if "3\n" in call.prompt else fault(400, "no")) as server:
        code, out, _ = critique(server)
    assert code == 0 and "without a readable judgement: 2 (" in out
    assert "no JSON 1" in out and "no reply: refused 1" in out
    a, b, _ = read("out.jsonl", aggregate="each")
    assert math.isnan(a.score) and a.critique is None and b.score == 1.0


def test_an_outage_is_one_message_and_the_next_run_goes_on(critique, tmp_path):
    with Server(lambda call: answer(call) if "3\n" in call.prompt else fault(503)) as server:
        flag = "--data.grader.init_args.gateway.outage_timeout=1"
        code, _, errors = critique(server, flag)
        assert code == 2 and "fdt: http://127.0.0.1" in errors and "gateway.outage_timeout: got no reply for" in errors
        assert "Traceback" not in errors and not (tmp_path / "out.jsonl").exists()
        server.behave = answer
        before = [call.prompt for call in server.calls if "3\n" in call.prompt]
        assert critique(server)[0] == 0
        assert [call.prompt for call in server.calls if "3\n" in call.prompt] == before


def test_the_budget_ends_a_run_with_a_message(critique):
    with Server(answer) as server:
        code, _, errors = critique(server, "--data.grader.init_args.gateway.budget.calls", "1")
        assert code == 2 and "gateway.budget.calls: got up to 2 with the next call, expected at most 1" in errors
        assert len(server.calls) == 1


def test_a_judge_that_wins_for_nothing_is_refused_first(critique):
    with Server(lambda call: completion(json.dumps({"critique": "", "score": 10}))) as server:
        code, _, errors = critique(server, "--self-test", "1")
        assert code == 2 and "100.0% wins of 13 judged" in errors


def test_faults_in_the_file_leave_nothing_to_write(critique, tmp_path):
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"prompt": "x"}\n')
    with Server(answer) as server:
        code, _, errors = critique(server)
        assert code == 1 and "rows.jsonl:4: response" in errors and not server.calls
        assert critique(server, "--lenient")[0] == 0


@pytest.mark.parametrize("name", [name for name in list_configs() if name.startswith("judge/")])
def test_shipped_judges_are_judges(name):
    judge = load_grader(name, [])
    for each in judge.graders if isinstance(judge, GraderChain) else [judge]:
        assert isinstance(each, Judge) and each.gateway.model


def test_flags_change_the_judge():
    own, flags = split_flags(
        [
            "rows",
            "--data.grader.init_args.samples",
            "2",
            "--out",
            "x",
            "--data.grader.init_args.sampling.temperature=0.5",
        ]
    )
    assert own == ["rows", "--out", "x"]
    judge = load_grader("judge/local", flags)
    assert judge.samples == 2 and judge.sampling.temperature == 0.5 and judge.sampling.max_tokens == 1024


@pytest.mark.parametrize(
    "text, message",
    [
        ("data: {}", "no grader"),
        ("[1]", "no grader"),
        ("a: [", "no YAML"),
        ("data: {grader: {class_path: feedback.graders.PointwiseJudge, init_args: {gateway: {modle: x}}}}", "modle"),
        ("data: {grader: {class_path: feedback.graders.Nobody}}", "Nobody"),
    ],
)
def test_configs_that_cannot_be_are_named(tmp_path, text, message):
    path = tmp_path / "judge.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_grader(str(path), [])
    assert "judge.yaml" in str(error.value) and "\n" not in str(error.value)


def test_it_needs_no_torch(tmp_path):
    code = (
        "import sys; import fdt.cli.critique; from fdt.cli.plugs import load_grader; load_grader('judge/api', []); "
        "print(sorted({'torch', 'lightning', 'transformers', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "[]"


def test_rows_in_a_table_stay_a_table(critique, tmp_path):
    with Server(answer) as server:
        assert critique(server, "--out", str(Path("out.csv")))[0] == 0
    assert [episode.critique for episode in read("out.csv", aggregate="each")] == ["Count again."] * 2 + ["Too high."]
