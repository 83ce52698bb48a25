"""Shipped configs and samples are found by name, and nothing outside their folders is."""

import pytest

from fdt import resources as shipped
from fdt.errors import UserError


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package folder with two configs of its own, and a working directory elsewhere."""
    package = tmp_path / "site" / "fdt"
    (package / "configs" / "task").mkdir(parents=True)
    (package / "configs" / "quickstart.yaml").write_text("# The first run.\n# More.\na: 1\n")
    (package / "configs" / "task" / "shepherd.yaml").write_text("b: 2\n")
    (tmp_path / "site" / "secret.yaml").write_text("c: 3\n")
    monkeypatch.setattr(shipped, "PACKAGE", package)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return package / "configs"


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml"])
def test_name_resolves_with_and_without_suffix(shelf, name):
    assert shipped.resolve(name) == shelf / "quickstart.yaml"


def test_subfolder_is_part_of_the_name(shelf):
    assert shipped.resolve("task/shepherd") == shelf / "task" / "shepherd.yaml"


def test_an_existing_file_wins(shelf, tmp_path):
    mine = tmp_path / "work" / "quickstart.yaml"
    mine.write_text("mine: true\n")
    assert shipped.resolve("quickstart.yaml").read_text() == "mine: true\n"
    assert shipped.resolve("quickstart") == shelf / "quickstart.yaml"
    assert shipped.resolve(mine) == mine


def test_names_and_first_comment_lines_are_listed(shelf, capsys):
    assert shipped.main([]) == 0
    assert capsys.readouterr().out == "quickstart     The first run.\ntask/shepherd\n"


def test_one_config_is_printed_as_it_is(shelf, capsys):
    assert shipped.main(["task/shepherd"]) == 0
    assert capsys.readouterr().out == "b: 2\n"


def test_unknown_name_suggests_the_nearest(shelf):
    with pytest.raises(UserError, match="no such config: got 'quickstrat.yaml'.*Did you mean 'quickstart'?"):
        shipped.resolve("quickstrat.yaml")
    with pytest.raises(UserError, match="`fdt configs` lists"):
        shipped.resolve("zzz")


def test_names_do_not_lead_out_of_the_folder(shelf):
    with pytest.raises(UserError):
        shipped.resolve("../../secret")


def test_command_line_configs_become_paths(shelf):
    argv = ["fit", "-c", "quickstart", "--config=task/shepherd", "--config", "quickstart", "--trainer.max_steps", "3"]
    quick, task = str(shelf / "quickstart.yaml"), str(shelf / "task" / "shepherd.yaml")
    assert shipped.resolve_arguments(argv) == [
        "fit",
        "-c",
        quick,
        f"--config={task}",
        "--config",
        quick,
        "--trainer.max_steps",
        "3",
    ]


def test_checkout_configs_all_say_what_they_are_for():
    assert shipped.list_configs()
    assert [name for name in shipped.list_configs() if not shipped.describe(shipped.resolve(name))] == []


def test_sample_is_found_and_an_unknown_one_lists_what_there_is():
    with pytest.raises(UserError, match="no such file or sample: got 'zzz'.*there are: ") as fault:
        shipped.find_sample("zzz")
    for name in str(fault.value).split("there are: ")[1].rstrip(".").split(", "):
        assert shipped.find_sample(name).is_file()
    with pytest.raises(UserError):
        shipped.find_sample("../types.py")
    with pytest.raises(UserError, match=r"Did you mean 'sums\.jsonl'\?$"):
        shipped.find_sample("sum.jsonl")


def test_a_misspelt_file_of_ones_own_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.csv").write_text("prompt,response\n")
    with pytest.raises(UserError, match="got 'answer.csv', expected a file of yours.*Did you mean 'answers.csv'"):
        shipped.find_sample("answer.csv")
    with pytest.raises(UserError, match=f"got 'q.csv'.*Check the path; relative ones start at {tmp_path}"):
        shipped.find_sample("q.csv")
