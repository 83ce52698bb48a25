"""The help page, which is read and not imported."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import suppress

import pytest

from fdt.__main__ import main
from fdt.cli.run.help import format_help, list_options, shorten
from fdt.cli.run.names import ROOTS
from fdt.experience import Experience
from fdt.learner import Learner
from tests.helpers.paths import ROOT
from tests.helpers.runs import environment


@pytest.mark.parametrize("block, kind", [("model", Learner), ("data", Experience)])
def test_every_setting_is_there_with_its_text_and_default(block: str, kind: type):
    found = dict(list_options(block, ROOTS[block]))
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        text = found[f"--{block}.{name}"]
        assert len(text) > 20, text
        default = parameter.default
        if default is None or isinstance(default, int | float | str):
            assert text.endswith(f"({'null' if default is None else default})")
    assert "--model.lora.rank" in dict(list_options("model", ROOTS["model"]))


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_each_verb_has_a_page_with_an_example(verb: str):
    page = format_help(verb)
    assert f"fdt {verb} " in page
    assert "--trainer.max_steps" in page
    assert max(map(len, page.splitlines())) <= 120


@pytest.mark.parametrize("argv", [["--help"], ["fit", "--help"], ["critique", "--help"], ["serve", "--help"]])
def test_the_pages_of_verbs_that_read_configs_say_how_other_modules_are_allowed(argv, capsys):
    with suppress(SystemExit):  # argparse's way to end
        main(argv)
    assert "--allow-imports" in capsys.readouterr().out


def test_long_texts_are_cut_after_a_sentence():
    assert shorten("One. " + "word " * 80) == "One."
    assert shorten("Short, and whole.\n\nMore.") == "Short, and whole."


def test_help_imports_no_torch():
    code = "import sys; from fdt.__main__ import main\nmain(['fit', '--help'])\nprint('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "False"
