"""The `fdt` command: quick help without torch, verbs found lazily, errors as messages."""

import importlib.util
import subprocess
import sys

import pytest

from fdt import __main__ as command
from fdt.errors import UserError
from feedback.faults import DataError

WITHOUT_TORCH = """
import sys
from fdt.__main__ import main
code = main({argv!r})
heavy = sorted({{"torch", "transformers", "lightning", "numpy"}} & set(sys.modules))
assert not heavy, heavy
sys.exit(code)
"""


def run(*argv: str) -> subprocess.CompletedProcess:
    script = WITHOUT_TORCH.format(argv=list(argv))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


@pytest.fixture
def verb(monkeypatch):
    """Installs a module of its own behind a verb, so that the dispatcher is tested and not the verbs."""

    def install(behave):
        module = type(sys)("verb_under_test")
        module.main = behave
        monkeypatch.setitem(sys.modules, "verb_under_test", module)
        monkeypatch.setitem(command.VERBS, "probe", ("verb_under_test", False, "a probe"))

    return install


def raising(error: BaseException):
    def behave(argv):
        raise error

    return behave


def test_help_lists_every_verb():
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for name, (_, _, line) in command.VERBS.items():
        assert f"  {name} " in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize(
    "argv", [["--help"], ["configs"], ["configs", "--help"], ["model", "--help"], ["export", "--help"]]
)
def test_light_verbs_load_nothing_heavy(argv):
    # argparse leaves through SystemExit(0) on --help, before the check; -X importtime would be slower to read.
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fdt", *argv], capture_output=True, text=True, timeout=60
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "fdt.errors" in imported
    assert not {"torch", "transformers", "lightning", "numpy"} & imported


def test_every_verb_has_its_module():
    assert [name for name, (module, _, _) in command.VERBS.items() if importlib.util.find_spec(module) is None] == []


@pytest.mark.parametrize(("verb", "near"), [("fti", "`fdt fit`"), ("exprot", "`fdt export`"), ("zzz", "Known verbs")])
def test_unknown_verb_names_the_nearest(verb, near, capsys):
    assert command.main([verb]) == 2
    error = capsys.readouterr().err
    assert near in error
    assert error.count("\n") == 1


def test_no_verb_shows_the_help_and_fails(capsys):
    assert command.main([]) == 2
    assert "usage: fdt VERB" in capsys.readouterr().out


def test_version(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == "0.2.0\n"


def test_verb_gets_the_rest_of_the_arguments(verb):
    verb(lambda argv: len(argv))
    assert command.main(["probe", "a", "--b", "c"]) == 3


def test_a_verb_that_returns_nothing_succeeded(verb):
    verb(lambda argv: None)
    assert command.main(["probe"]) == 0


@pytest.mark.parametrize(
    "error",
    [
        UserError("no such model", got="x", expected="a folder"),
        DataError("f.jsonl", 3, "score", "NaN", "a number"),
    ],
)
def test_expected_errors_are_one_message_without_traceback(verb, error, capsys):
    verb(raising(error))
    assert command.main(["probe"]) == 2
    assert capsys.readouterr().err == f"fdt: {error}\n"


def test_other_errors_keep_their_traceback(verb):
    verb(raising(RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        command.main(["probe"])


def test_interrupt_exits_as_shells_do(verb):
    verb(raising(KeyboardInterrupt()))
    assert command.main(["probe"]) == 130


def test_a_reader_that_leaves_early_makes_no_noise():
    done = subprocess.run(
        f"'{sys.executable}' -m fdt configs | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr


def test_error_message_says_where_what_got_expected_and_remedy():
    error = UserError("unknown field", got=3, expected="a name", remedy="see --help", key="model.base", path="a.yaml")
    assert str(error) == "a.yaml: model.base: unknown field: got 3, expected a name. See --help."
    assert str(UserError("plain")) == "plain."


def test_error_survives_pickling():
    import pickle

    error = UserError("no such model", got="x", remedy="Check the path.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "no such model: got 'x'. Check the path."


def test_praise_of_other_packages_is_left_out_and_news_are_not(caplog: pytest.LogCaptureFixture):
    import logging

    from lightning.pytorch.utilities.rank_zero import rank_zero_info

    from fdt.cli.run.warnings import filter_warnings

    filter_warnings()
    with caplog.at_level(logging.INFO):
        rank_zero_info("💡 Tip: For seamless cloud uploads, try installing something")
        rank_zero_info("step 3: rolled back")
    assert [record.getMessage() for record in caplog.records] == ["step 3: rolled back"]


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["data", "chek", "f.jsonl"], "check"),
        (["data", "check", "f.jsonl", "--scal", "1"], "--scale"),
        (["data", "check", "f.jsonl", "--scal=1"], "--scale"),
        (["annotate", "f.jsonl", "--prot", "1"], "--port"),
        (["export", "runs/a", "b", "--merged-onli"], "--merged-only"),
        (["bench", "signls"], "signals"),
        (["plan", "--meazure"], "--measure"),
        (["plan", "--confg", "quickstart"], "--config"),
    ],
)
def test_a_misspelt_option_of_any_verb_names_the_nearest(argv, near, capsys):
    try:
        status = command.main(argv)
    except SystemExit as error:
        status = error.code
    assert status == 2 and f"id you mean {near}?" in capsys.readouterr().err


def test_plan_refuses_what_fit_would_refuse(capsys):
    for option in ("--trainer.devics=2", "--model.lora.rnk=3", "--data.sorce=x"):
        assert command.main(["plan", option]) == 2
        assert "Did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["plan", "--hinted-share", "3"], "a number from 0 to 1"),
        (["plan", "--prompt-tokens", "-4"], "an integer, at least 1"),
        (["plan", "--link", "nan"], "a number above 0"),
        (["serve", "--max-body", "0"], "an integer, at least 1"),
        (["serve", "--timeout", "0"], "a number above 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(argv, expected, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(argv)
    assert f"expected {expected}" in capsys.readouterr().err
