"""What SECURITY.md promises about files of others, attacked: configs, checkpoints, tokenizers, tables, archives."""

import gzip
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from fdt.__main__ import main
from fdt.cli.imports import VARIABLE, is_allowed, take_allowed
from fdt.cli.run.names import check_names
from fdt.engines.vllm import process
from fdt.engines.vllm.snapshot import SnapshotWriter
from fdt.environments.arithmetic import evaluate_expression
from fdt.errors import UserError
from fdt.report.panels.settings import HIDDEN, collect_settings
from fdt.report.runs import Run
from fdt.report.sanitize import make_legible
from fdt.resources import parse_yaml
from feedback.diversity import extract_final_answer
from feedback.faults import DataError
from feedback.readers.files import open_file
from feedback.readers.tables.arrow import read_parquet


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")


def write_config(folder: Path, **data: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"data": {"file": "x.jsonl", **data}}))
    return str(path)


@pytest.mark.parametrize(
    "grader",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.exec",
        "posix.system",
        "this.s",
        "numpy.load",
        "transformers.pipeline",
        "torch.hub.load",
        "torch.load",
        "yaml.unsafe_load",
        {"class_path": "subprocess.Popen", "init_args": {"args": "id"}},
        {"class_path": "fdt.environments.tools.Calculator", "init_args": {"x": {"class_path": "os.system"}}},
        {"class_path": "feedback.graders.GraderChain", "init_args": {"graders": ["os.system"]}},
    ],
)
def test_a_config_names_no_code_outside(grader, tmp_path):
    with pytest.raises(UserError, match=r"names code outside fdt|no such"):
        check_names(["fit", "-c", write_config(tmp_path, grader=grader)])


def test_the_operator_may_allow_it(tmp_path, monkeypatch):
    argv = ["fit", "-c", write_config(tmp_path, grader="textwrap.dedent")]
    with pytest.raises(UserError, match=r"--allow-imports=textwrap"):
        check_names(argv)
    monkeypatch.setenv(VARIABLE, "")
    assert take_allowed([*argv, "--allow-imports", "textwrap,os"]) == argv
    check_names(argv)
    with pytest.raises(UserError, match="no names"):
        take_allowed(["fit", "--allow-imports"])


def test_a_judge_may_be_allowed_too(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "1+1?", "response": "2"}) + "\n")
    judge = write_config(tmp_path, grader="textwrap.dedent")
    argv = ["critique", str(rows), "--judge", judge, "--out", str(tmp_path / "out.jsonl"), "--dry-run"]
    assert main(argv) == 2
    assert "outside fdt" in (first := capsys.readouterr().err) and "--allow-imports=textwrap" in first
    main([*argv, "--allow-imports=textwrap"])
    assert "outside fdt" not in capsys.readouterr().err


def test_ones_own_files_need_no_ceremony_and_a_run_folder_none_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "my_plugs.py").write_text("def brevity(episode): return 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "theirs"
    (run / "checkpoints").mkdir(parents=True)
    (run / "planted.py").write_text("raise SystemExit('ran')\n")
    check_names(["fit", "-c", write_config(tmp_path, grader="my_plugs.brevity")])
    check_names(["test", "-c", write_config(run, grader="my_plugs.brevity")])  # one's own grader, in a run's config
    with pytest.raises(UserError, match="outside fdt"):
        check_names(["test", "-c", write_config(run, grader="theirs.planted.x")])
    monkeypatch.syspath_prepend(run)
    with pytest.raises(UserError, match="outside fdt"):
        check_names(["test", "-c", write_config(run, grader="planted.x")])


def test_what_training_is_made_of_may_be_named():
    for path in ("torch.optim.AdamW", "objectives.LeaveOneOut", "fdt.policy.fsdp.FSDP2", "feedback.graders.Judge"):
        assert is_allowed(path, "config.yaml")
    assert is_allowed("lightning.pytorch.loggers.CSVLogger", "config.yaml")
    assert not is_allowed("torch.hub.load", "config.yaml")
    assert is_allowed("no_such_module_at_all.x", "config.yaml")  # it imports nothing; the parser says so


def test_hyper_parameters_of_a_checkpoint_change_nothing(tmp_path, monkeypatch):
    """Lightning merges them into the config and imports what they name; here nobody does."""
    import torch
    from jsonargparse import Namespace
    from lightning.pytorch.cli import LightningCLI

    from fdt.cli.run.lightning_cli import CLI

    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "x.ckpt"
    torch.save({"hyper_parameters": {"optimizer": "planted.x", "base": "other"}}, path)
    parser_saw = []

    class Parser:
        def parse_object(self, given, config):
            parser_saw.append(given)
            return config

    made = CLI.__new__(CLI)
    made.parser = Parser()
    made.config = Namespace(subcommand="fit", fit=Namespace(ckpt_path=str(path)))
    made._parse_ckpt_path()
    assert not parser_saw and not (tmp_path / "ran").exists()
    LightningCLI._parse_ckpt_path(made)  # what would happen otherwise
    assert parser_saw == [{"fit": {"model": {"optimizer": "planted.x", "base": "other"}}}]


def test_a_tokenizer_that_cannot_be_made_harmless_is_refused():
    from fdt.data.chat.control_tokens import neutralise
    from tests.helpers.tiny import tokenizer

    made = tokenizer()
    made.add_special_tokens({"additional_special_tokens": ["\u200b"]})
    with pytest.raises(UserError, match="zero-width space"):
        neutralise("a\u200bb", made)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 2000000000 }}",
    ],
)
def test_a_template_that_takes_too_much_is_refused_before_it_is_used(source):
    from fdt.data.chat import probe

    assert "more than" in str(probe.measure_template(source))


def test_templates_of_models_pass():
    from fdt.data.chat.probe import measure_template

    for source in (
        "{% for m in messages %}{% generation %}{{ m['content'] | tojson }}{% endgeneration %}{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% if",
    ):
        assert measure_template(source) is None


def test_a_bomb_of_aliases_is_refused():
    lines = ["a0: &a0 [x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(yaml.YAMLError, match="aliases"):
        parse_yaml("\n".join(lines))
    with pytest.raises(yaml.YAMLError, match="part of"):
        parse_yaml("a: &a [*a]")
    assert parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("text", ["day: 2001-02-30", "[" * 3000, "a: !!int x"])
def test_yaml_whose_values_cannot_be_read_is_refused_as_yaml(text):
    with pytest.raises(yaml.YAMLError, match="cannot be read"):
        parse_yaml(text)


def test_a_gzip_bomb_is_refused_and_text_is_not(tmp_path):
    bomb = tmp_path / "bomb.jsonl.gz"
    with gzip.open(bomb, "wb") as sink:
        for _ in range(100):
            sink.write(b" " * (1 << 20))
    with open_file(bomb) as stream, pytest.raises(DataError, match="unpack to more than 64 MiB"):
        stream.readline()
    fine = tmp_path / "fine.jsonl.gz"
    with gzip.open(fine, "wt") as sink:
        sink.writelines(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(20_000))
    with open_file(fine) as stream:
        assert sum(1 for _ in stream) == 20_000


def test_a_parquet_bomb_is_refused_or_read_in_parts(tmp_path):
    bomb = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": ["x" * (32 << 20)] * 64}), bomb, compression="zstd")
    assert bomb.stat().st_size < 200_000
    with pytest.raises(DataError, match="unpack to more than 64 MiB"):
        list(read_parquet(bomb))
    fine = tmp_path / "fine.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [f"row {n}" for n in range(1000)]}), fine)
    assert len(list(read_parquet(fine))) == 1000


def test_a_report_shows_no_secret():
    config = {
        "data": {
            "grader": {"init_args": {"headers": {"Authorization": "Bearer SECRET"}, "api-key": "SECRET"}},
            "url": "https://user:SECRET@host/v1",
            "hf_token": "SECRET",
            "token": "SECRET",
            "accessToken": "SECRET",
            "max_tokens": 2048,
        },
        "model": {"tokens_per_microbatch": 4096},
    }
    shown = collect_settings([make_run(config)])
    text = str(shown)
    assert "SECRET" not in text and HIDDEN in text and "2048" in text and "4096" in text


def make_run(config: dict) -> Run:
    run = Run.__new__(Run)
    object.__setattr__(run, "config", config)
    object.__setattr__(run, "name", "one")
    return run


def test_marks_of_direction_are_shown():
    assert make_legible("a\u200eb\u200fc\u061cd\u202ee") == "a\ufffdb\ufffdc\ufffdd\ufffde"


def test_the_calculator_returns_at_once():
    start = time.process_time()
    for text in ("round(5,-1000000000)", "round(2**2000, 10**9)", "round(1.5, 10**18)"):
        with pytest.raises(ValueError, match="places"):
            evaluate_expression(text)
    assert evaluate_expression("gcd(2**2000, 3**2000)") == "1"
    assert time.process_time() - start < 20  # milliseconds; minutes and hours before


def test_an_answer_of_blanks_is_read_at_once():
    start = time.process_time()
    extract_final_answer("\\boxed{" + " " * 30_000 + "1x}")
    assert time.process_time() - start < 20  # milliseconds; minutes and hours before


def test_a_server_gets_no_keys_but_those_it_needs():
    assert process.is_for_children("HF_TOKEN") and process.is_for_children("PATH")
    for name in ("OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_PASSWORD"):
        assert not process.is_for_children(name), name


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o022, 0o755)])
def test_weights_for_a_server_are_as_readable_as_the_user_has_files(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        writer = SnapshotWriter(str(tmp_path))
        assert stat.S_IMODE(Path(writer.place.name).stat().st_mode) == mode
        assert os.umask(mask) == mask, "asking changes nothing"
    finally:
        os.umask(before)


def test_no_key_goes_to_an_impostor(tmp_path):
    """Another user took the port between its choice and the server's start."""
    seen = tmp_path / "seen"
    impostor = """
import os, socket, sys
os.setuid(65534)
taken = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    peer, _ = taken.accept()
    sys.stdout.write(repr(peer.recv(4096))); sys.stdout.flush()
"""
    others = []

    def take(port: int) -> list[str]:
        if not others:
            others.append(
                subprocess.Popen(["/usr/bin/python3", "-c", impostor, str(port)], stdout=subprocess.PIPE, text=True)
            )
            assert others[0].stdout.readline() == "ready\n"
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    if not Path("/usr/bin/python3").exists():
        pytest.skip("needs a Python of the system")
    child = process.Child(take, tmp_path, {})
    try:
        with pytest.raises(UserError, match="another user's process listens"):
            child.wait(30)
    finally:
        child.stop() if child.process.poll() is not None else child.process.kill()
        child.stop()
        others[0].kill()
    assert child.key not in others[0].stdout.read() and not seen.exists()


def test_ones_own_server_is_found_as_ones_own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert process.find_listeners(server.getsockname()[1]) == {os.geteuid()}
