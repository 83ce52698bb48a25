"""What is built for a run before it begins: the asked verb's parser alone, without the texts that only help shows."""

import docstring_parser
import pytest

from fdt.__main__ import main
from fdt.cli.run.lightning_cli import CLI

RUN = ("-c", "quickstart", "--arms=null")
ONE = "Answers to each prompt."


@pytest.fixture
def built(monkeypatch):
    """The verbs whose parsers were built, and the objects whose source was read for texts."""
    verbs, texts = [], []
    build, read = CLI._prepare_subcommand_parser, docstring_parser.parse_from_object

    def note_verb(self, trainer, verb, **settings):
        verbs.append(verb)
        return build(self, trainer, verb, **settings)

    def note_text(component, *arguments, **settings):
        texts.append(component)
        return read(component, *arguments, **settings)

    monkeypatch.setattr(CLI, "_prepare_subcommand_parser", note_verb)
    monkeypatch.setattr(docstring_parser, "parse_from_object", note_text)
    return verbs, texts


@pytest.mark.parametrize("verb", ["fit", "predict"])
def test_a_run_builds_one_parser_and_reads_no_texts(built, capsys, verb):
    with pytest.raises(SystemExit) as end:
        main([verb, *RUN, "--print_config"])
    assert end.value.code == 0 and "default_root_dir" in capsys.readouterr().out
    assert built == ([verb], [])


@pytest.mark.parametrize(
    "asked",
    [
        ("--data.source.help", "fdt.rollout.sources.OnPolicy"),
        ("--data.source.help=fdt.rollout.sources.OnPolicy",),
    ],
)
def test_help_on_a_class_has_its_texts(built, capsys, asked):
    with pytest.raises(SystemExit) as end:
        main(["fit", *asked])
    assert end.value.code == 0 and ONE in " ".join(capsys.readouterr().out.split())
    assert built[1]


def test_an_error_is_not_lost_below_a_list_of_all_options(capsys):
    with pytest.raises(SystemExit) as end:
        main(["predict", *RUN, "--data.limits.tasks=many"])
    told = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(told) <= 6
    assert told[0] == "usage: fdt predict [-c CONFIG]... [--BLOCK.SETTING VALUE]..." and "got" in told[-1].lower()
