"""Plugs of one's own in configs and on the command line: functions as graders, classes as readers."""

import json

import pytest
import yaml
from jsonargparse import ArgumentParser

from fdt.__main__ import main
from fdt.cli.plugs import configure_parsers, load_grader
from fdt.errors import UserError
from feedback.graders import FunctionGrader, Grader, GraderChain, NumberMatch
from feedback.readers import FORMATS, Reader, read
from feedback.rewriter import Rewriter
from tests.helpers.runs import ROOT, config, quick

MODULE = """
from feedback.readers import Reader, build_task, read_id
from feedback.readers.chat import build_answer, build_user_prompt
from feedback.types import Episode

def brevity(episode, limit: int = 5):
    return 1.0 if len(episode.response) <= limit else (0.0, "Be shorter.")

def wild(episode):
    return 7

def two(prompt, answer):
    return 1.0

class Pairs(Reader):
    def __init__(self, answer: str = "a"):
        self.answer = answer

    def parse(self, fields):
        task = build_task(fields, build_user_prompt(fields.get_text("q", required=True) or ""), ("q", "a", "b"))
        return [Episode(read_id(fields), task, build_answer(fields.get_text(self.answer, required=True) or ""))]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_plugs.py").write_text(MODULE)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"q": "2 + 2?", "a": "4", "b": "twenty-two"}) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Holder:
    """What a data module looks like to the command line."""

    def __init__(
        self,
        grader: FunctionGrader | Grader | None = None,
        rewriter: Rewriter | None = None,
        format: str | Reader = "auto",
    ):
        self.grader = grader
        self.rewriter = rewriter
        self.format = format


def parse(**settings):
    configure_parsers()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Holder, "data")
    parsed = parser.parse_object({"data": settings})
    text = parser.dump(parsed)
    assert parser.dump(parser.parse_string(text)) == text  # a run's config.yaml starts the same run
    return parser.instantiate_classes(parsed).data, yaml.safe_load(text)["data"]


def test_a_function_is_a_grader_wherever_a_grader_stands(folder):
    made, text = parse(grader="my_plugs.brevity")
    assert isinstance(made.grader, FunctionGrader) and text["grader"] == "my_plugs.brevity"
    assert parse(grader={"class_path": "my_plugs.brevity"})[0].grader == made.grader
    settings = {"class_path": "my_plugs.brevity", "init_args": {"limit": 20}}
    made, text = parse(grader=settings)
    assert made.grader.settings == {"limit": 20} and text["grader"] == settings
    graders = ["my_plugs.brevity", {"class_path": "feedback.graders.NumberMatch"}, settings]
    made, _ = parse(grader={"class_path": "feedback.graders.GraderChain", "init_args": {"graders": graders}})
    assert isinstance(made.grader, GraderChain)
    assert [type(grader) for grader in made.grader.graders] == [FunctionGrader, NumberMatch, FunctionGrader]
    rewriter = {"grader": "my_plugs.brevity", "critique_check": "my_plugs.brevity"}
    made, _ = parse(rewriter={"class_path": "feedback.rewriter.Rewriter", "init_args": rewriter})
    assert isinstance(made.rewriter.critique_check, FunctionGrader)
    named = {"function": "my_plugs.brevity", "name": "short", "settings": {"limit": 3}}
    made, _ = parse(grader={"class_path": "feedback.graders.FunctionGrader", "init_args": named})
    assert (made.grader.name, made.grader.settings) == ("short", {"limit": 3})


def test_graders_by_class_are_what_they_were():
    assert parse(grader="NumberMatch")[0].grader == NumberMatch()
    made, _ = parse(grader={"class_path": "NumberMatch", "init_args": {"reveal": False}})
    assert made.grader == NumberMatch(reveal=False)
    assert parse(grader=None)[0].grader is None


def test_a_reader_stands_in_a_config(folder):
    assert parse(format="my_plugs.Pairs")[0].format == "my_plugs.Pairs"
    made, _ = parse(format={"class_path": "my_plugs.Pairs", "init_args": {"answer": "b"}})
    (episode,) = read(folder / "pairs.jsonl", made.format)
    assert episode.response == "twenty-two"


def test_commands_read_formats_of_ones_own(folder, capsys):
    assert main(["data", "check", "pairs.jsonl", "--format", "my_plugs.Pairs"]) == 0
    assert "1 records = 1 loaded + 0 refused" in capsys.readouterr().out
    assert main(["data", "convert", "pairs.jsonl", "rows.jsonl", "--format", "my_plugs.Pairs:answer=b"]) == 0
    assert read("rows.jsonl")[0].response == "twenty-two"


def test_an_unknown_format_is_one_line_with_all_names(folder, capsys):
    capsys.readouterr()
    assert main(["data", "check", "pairs.jsonl", "--format", "pairs"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("fdt: --format: got 'pairs', expected one of auto, shepherd, helpsteer2, ")
    assert err.count("\n") == 1 and "rows, or the dotted path of a reader of your own" in err
    assert main(["data", "check", "pairs.jsonl", "--format", "my_plugs.Triples"]) == 2
    assert "and my_plugs has no Triples" in capsys.readouterr().err


def test_help_lists_the_formats(capsys):
    with pytest.raises(SystemExit):
        main(["data", "check", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "auto, shepherd, helpsteer2," in words and "episodes, prompts, rows, or the dotted path" in words


def test_a_run_trains_on_plugs_of_ones_own(folder):
    """No edit of ours: a function judges fresh answers, a class reads the file; the saved config names both."""
    rows = [{"q": f"{n} + {n}?", "a": f"{n}", "b": f"{2 * n}"} for n in range(8)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = {"class_path": "my_plugs.Pairs", "init_args": {"answer": "b"}}
    grader = {"class_path": "my_plugs.brevity", "init_args": {"limit": 8}}
    settings = {"data__file": str(folder / "pairs.jsonl"), "data__format": reader, "data__grader": grader}
    path = config(folder, trainer__max_steps=1, **settings)
    done = quick("fit", "-c", path, PYTHONPATH=f"{ROOT}:{folder}")
    assert done.returncode == 0, done.stderr[-3000:]
    saved = yaml.safe_load((folder / "run" / "config.yaml").read_text())["data"]
    assert (saved["format"], saved["grader"]) == (reader, grader)
    (metrics,) = (folder / "run").rglob("metrics.csv")
    assert "train/rewards/brevity/mean" in metrics.read_text().splitlines()[0]
    wild = config(folder, trainer__max_steps=1, **settings | {"data__grader": "my_plugs.wild"})
    done = quick("fit", "-c", wild, PYTHONPATH=f"{ROOT}:{folder}")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "fdt: config: my_plugs.wild: got 7 of type int for the episode" in done.stderr


def test_help_of_the_data_module_lists_the_formats():
    from fdt.experience import Experience

    words = " ".join((Experience.__init__.__doc__ or "").split())
    assert ", ".join(FORMATS[1:]) in words


def judge(folder, grader):
    (folder / "judge.yaml").write_text(yaml.safe_dump({"data": {"grader": grader}}))
    return str(folder / "judge.yaml")


def test_a_function_fills_in_a_file(folder, capsys):
    rows = [{"id": "a", "prompt": "p", "response": "33"}, {"id": "b", "prompt": "p", "response": "thirty-three"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = judge(folder, "my_plugs.brevity")
    assert main(["critique", "rows.jsonl", "--judge", settings, "--out", "graded.jsonl"]) == 0
    short, long = read("graded.jsonl")
    assert (short.score, long.score, long.critique) == (1, 0, "Be shorter.")
    capsys.readouterr()
    assert main(["critique", "rows.jsonl", "--judge", judge(folder, "my_plugs.wild"), "--out", "wild.jsonl"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("fdt: config: my_plugs.wild: got 7 of type int for the episode a, expected a score from 0 to")
    assert err.count("\n") == 1 and "Map it to [0, 1]" in err


def test_a_function_of_something_else_is_refused(folder):
    number = "feedback.graders.NumberMatch"
    chain = "feedback.graders.GraderChain"
    for grader, words in [
        ("my_plugs.two", "got my_plugs.two.prompt, answer., expected a function of one episode. Missing a req"),
        ("my_plugs.three", "got 'my_plugs.three', and my_plugs has no three, expected a function f.episode., or"),
        ({"class_path": number, "init_args": {"tell": 1}}, 'key "data.grader": Problem with .*Option .tell. is not'),
        ({"class_path": chain, "init_args": {"graders": ["my_plugs.two"]}}, "expected a function"),
    ]:
        with pytest.raises(UserError, match=words) as error:
            load_grader(judge(folder, grader), [])
        assert "\n" not in str(error.value) and "Union" not in str(error.value) and "NoneType" not in str(error.value)
