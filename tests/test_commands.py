"""Every `fdt` command that a page, a config's comment or a template shows is one that fdt takes: its verb, its options,
its configs and the settings that it names exist. What the README's own-data commands do is tested in `test_readme`."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdt.__main__ import VERBS, main
from fdt.cli.reading import replace_map
from fdt.cli.run.arguments import list_config_files, put_configs_first
from fdt.cli.run.names import check_names
from fdt.resources import list_configs, resolve
from tests.helpers.paths import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "feedback/**/*.md", ".github/**/*.*", "configs/**/*.yaml", "notebooks/*.py")
    for path in ROOT.glob(pattern)
    if path.name not in ("migration.md", "CHANGELOG.md")  # both name what there was
)
BLOCK = re.compile(r"^```(?:bash|text|sh|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:\w+=\S+ )*fdt [^`]+)`(?!`)")
COMMAND = re.compile(r"^(?:[$#>] )?((?:\w+=\S+ )*fdt (?!:).+)$", re.MULTILINE)
RUNS = ("fit", "validate", "test", "predict")
OPEN = ("…", "...", " | ", "VERB", "CKPT ", " [--", "--self-test N")
"""What only stands for a command."""


class ParsedError(Exception):
    """The arguments were taken; nothing is run."""


def list_commands(path: Path) -> Iterator[str]:
    """The commands of a page, without what stands behind them: comments, redirections, further commands."""
    text = path.read_text(encoding="utf-8")
    blocks = [text] if path.suffix in (".yaml", ".yml", ".py") else BLOCK.findall(text)
    for block in blocks:
        yield from COMMAND.findall(block.replace("\\\n", " "))
    for found in INLINE.findall(text):
        command = " ".join(found.split())
        words = command.split()
        if re.search(r" -(c|-\w)", command) and not words[-1].startswith("--"):  # else a verb is only mentioned
            yield command


def split_command(command: str) -> list[str]:
    """The words of a command behind `fdt`."""
    words = shlex.split(re.split(r"\s+#|\s+>|\s+&&|\s+;", command)[0])
    return words[words.index("fdt") + 1 :]


def keep_shipped(argv: list[str]) -> list[str]:
    """The command with its shipped configs as paths and without the reader's own."""
    kept: list[str] = []
    for place, word in enumerate(argv):
        if word in ("-c", "--config") or (place and argv[place - 1] in ("-c", "--config")):
            name = argv[place + 1] if word in ("-c", "--config") else word
            if name.removesuffix(".yaml").removeprefix("configs/") not in list_configs():
                assert name == "CONFIG" or (name.endswith(".yaml") and not name.startswith("configs/")), (
                    f"no config {name}"
                )
                continue
            kept.append(word if word in ("-c", "--config") else str(resolve(name)))
        else:
            kept.append(word)
    return kept


def check_command(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where fdt would refuse the words of a command, whatever is in its files."""
    if not argv or argv[0].startswith("-") or {"-h", "--help"} & set(argv):
        return
    assert argv[0] in VERBS, f"no verb {argv[0]}"
    if argv[0] in RUNS:
        given = put_configs_first(replace_map(keep_shipped(argv)))
        check_names(given)
        assert all(Path(path).is_file() for path in list_config_files(given))
        return
    taken = argparse.ArgumentParser.parse_known_args

    def stop_when_parsed(self, *arguments, **options):
        _, unknown = taken(self, *arguments, **options)
        assert not unknown or self.prog == "fdt plan", f"no option {unknown}"  # which takes the options of fit besides
        if self.prog != "fdt data":  # hands the rest to the parser of its own verb
            raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop_when_parsed)
    try:
        assert main(argv) == 0
    except ParsedError:
        pass
    finally:
        monkeypatch.undo()


def test_there_are_commands_to_check():
    found = [command for path in PAGES for command in list_commands(path)]
    assert len(found) > 40 and {"fit", "data", "export", "grams"} <= {split_command(command)[0] for command in found}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_are_taken(path, monkeypatch, capsys):
    for command in list_commands(path):
        if any(mark in command for mark in OPEN):
            continue
        try:
            check_command(split_command(command), monkeypatch)
        except (Exception, SystemExit) as fault:
            pytest.fail(f"{path.name}: {command}: {fault} {capsys.readouterr().err}")


@pytest.mark.parametrize(
    "command",
    [
        "fdt fitt -c quickstart",
        "fdt fit -c quickstat",
        "fdt fit --data.fil x.csv",
        "fdt fit --model.lora.rnk 3",
        "fdt fit -c quickstart --data.source fdt.rollout.sources.OnPolic",
        "fdt data check mine.jsonl --scal 1 5 --leniet",
        "fdt export runs/fdt",
        "fdt fit --map promt=Question",
    ],
)
def test_a_command_that_does_not_exist_is_found(command, monkeypatch):
    with pytest.raises((Exception, SystemExit)):
        check_command(split_command(command), monkeypatch)
