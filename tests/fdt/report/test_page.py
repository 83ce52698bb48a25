"""The page: nothing comes in, nothing gets out, text stays text, and the numbers are those of the files."""

import re
from html.parser import HTMLParser

import pytest

from fdt.errors import UserError
from fdt.report import main, print_table, write_report
from fdt.report.interactive.script import build_policy
from fdt.report.page import describe_change, render, truncate_text
from fdt.report.panels.samples import select_samples
from fdt.report.panels.settings import collect_settings
from fdt.report.runs import find_runs
from fdt.report.sanitize import make_legible
from fdt.report.table import build_table
from fdt.statistics.intervals import Interval
from tests.helpers.run_folder import HOSTILE, answers, write_arm, write_likelihood_arm, write_lines


class Elements(HTMLParser):
    """Collects tags, attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(written) -> Elements:
    """The parsed page of two arms."""
    return Elements((written / "report.html").read_text(encoding="utf-8"))


def test_hostile_text_stays_text(page):
    assert not {"iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    # One script without attributes runs; the others are data, which no browser runs.
    data = [value for tag, name, value in page.attributes if tag == "script" and name == "type"]
    assert set(data) == {"text/plain", "application/json"}
    assert page.tags.count("script") == len(data) + 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    # Prompt, critique, what the teacher read, answers, a drop reason and the config all carry it.
    assert page.text.count("<script>alert(1)</script>") > 20
    assert '"]]>"' in page.text
    assert "<script>" in page.text.split("answer", 1)[1]


def test_nothing_is_loaded_from_outside(page):
    for tag, name, value in page.attributes:
        if name in ("src", "srcset", "data", "poster", "action", "background"):
            assert value.startswith("data:image/png;base64,"), (tag, name, value[:80])
        if name == "href":
            assert value.startswith("#")
    assert ("meta", "content", build_policy(live=False)) in page.attributes
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/=]+'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'",
        build_policy(live=False),
    )


def test_style_reaches_for_nothing(written):
    html = (written / "report.html").read_text(encoding="utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_every_link_has_its_target(page):
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {value[1:] for _, name, value in page.attributes if name == "href"} <= ids
    assert {value for _, name, value in page.attributes if name == "for"} <= ids


def test_the_page_says_what_the_table_says(page, written):
    text = " ".join(page.text.split())
    for number in ("65.0 [", "+35.0 [", "improved : +35.0", "no clear change : +5.0"):
        assert number.replace(" :", ":") in text
    assert "220 rows = 200 used (150 score and critique, 50 score only) + 20 dropped (15 no response" in text
    assert "Rewrites: accepted 24, not better 9." in text
    assert "4 parts of the run could not be read" in text
    assert "do-not-print" not in text
    assert (written / "table.json").exists()
    assert (written / "table.md").exists()
    assert len(list((written / "figures").glob("*.png"))) > 8


def test_likelihood_run_without_answers(tmp_path):
    write_likelihood_arm(tmp_path / "all", 0.8)
    text = Elements(write_report(tmp_path).read_text()).text
    assert "-0.400 [-0.400, -0.400] nats/token" in text
    assert "No pairs of answers were recorded." in text


@pytest.mark.parametrize(
    "name",
    ["metrics", "transcripts.jsonl", "accounting.json", "eval/last.jsonl", "eval/base.jsonl"],
)
def test_a_run_cut_short_still_gets_a_page(tmp_path, name):
    arm = write_arm(tmp_path / "arm")
    (arm / name).rename(tmp_path / "away")
    assert "</html>" in write_report(tmp_path).read_text()


@pytest.mark.parametrize(
    "record", [{}, {"tokens": 3}, {"tokens": [1, {}, {"text": None}]}, {"prompt": [{"role": "user"}]}, {"prompt": None}]
)
def test_records_of_another_shape_are_shown_as_far_as_they_go(tmp_path, record):
    arm = write_arm(tmp_path / "arm")
    write_lines(arm / "transcripts.jsonl", [record])
    write_lines(arm / "eval/base.jsonl", [{**answers([1.0])[0], **record}])
    runs = find_runs(tmp_path)
    assert "</html>" in render("any", runs, build_table(runs), {})


def test_messages_are_shown_turn_by_turn():
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert truncate_text(messages) == "user: hi\n\nassistant: ho"
    assert truncate_text("x" * 5000).endswith("… (1000 more characters)")


def test_control_characters_and_overrides_are_made_visible():
    assert make_legible("a\x00b\x1bc\ud83dd\u202ee\n\tf\u2069") == "a\ufffdb\ufffdc\ufffdd\ufffde\n\tf\ufffd"
    assert make_legible(HOSTILE).encode("utf-8")
    assert make_legible("日本語 \U0001f600 שלום") == "日本語 \U0001f600 שלום"


def test_samples_show_each_outcome(root):
    chosen, counted = select_samples(find_runs(root))
    assert counted == {"improved": 16, "worsened": 2, "as before": 22}
    assert [sample.outcome for sample in chosen] == ["improved"] * 4 + ["worsened"] * 2 + ["as before"] * 4
    assert [answer.label for answer in chosen[0].answers] == ["base", "on-policy", "replay"]


def test_settings_show_what_differs_and_hide_secrets(root):
    shown = collect_settings(find_runs(root))
    assert shown.differing == {"model.optimizer.lr": ["0.0005", "0.0001"]}
    assert shown.main["model.terms.policy"] == "objectives.PolicyGradient"
    assert shown.main["model.coefficients.distill"] == "0.5"
    assert shown.others["model.api_key"] == "(hidden)"
    assert "do-not-print" not in "".join(shown.files.values())


@pytest.mark.parametrize(
    ("kind", "interval", "word"),
    [
        ("score", Interval(0.2, 0.1, 0.3), "improved"),
        ("score", Interval(-0.2, -0.3, -0.1), "worsened"),
        ("score", Interval(0.2, -0.1, 0.5), "no clear change"),
        ("likelihood", Interval(-0.2, -0.3, -0.1), "improved"),
        ("likelihood", Interval(0.2, 0.1, 0.3), "worsened"),
        ("score", Interval(0.2, float("nan"), float("nan")), "not measured"),
        ("score", None, "not measured"),
    ],
)
def test_verdict_follows_the_interval(kind, interval, word):
    assert describe_change(kind, interval) == word


def test_report_verb_prints_the_path_and_honours_out(root, tmp_path, capsys):
    out = tmp_path / "elsewhere" / "page.html"
    assert main(["report", str(root / "replay"), str(root / "on-policy"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.with_name("table.json").exists()
    assert re.search(r"<h1>replay, on-policy</h1>", out.read_text())


def test_compare_verb_prints_table_and_accounting(root, capsys):
    assert main(["compare", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "65.0 [" in printed
    assert "replay: 220 rows = 200 used" in printed
    assert "half-written last line" in printed
    assert "\x1b" not in printed  # a reason cannot steer the terminal
    print_table(root / "replay")
    assert "+5.0 [" in capsys.readouterr().out


def test_faults_are_one_message(tmp_path, root):
    with pytest.raises(UserError, match="no such run folder"):
        main(["report", str(tmp_path / "nowhere")])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the report cannot be written"):
        main(["report", str(root), "--out", str(tmp_path / "file" / "report.html")])
