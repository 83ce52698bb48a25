"""A reader of one's own: a class in one's own file, named by its dotted path, without an edit of ours."""

import json
import re

import pytest

from feedback.faults import DataError
from feedback.readers import FORMATS, Reader, detect, find_reader, read, stream
from feedback.readers.catalogue import READERS
from feedback.readers.formats.argilla import Argilla
from tests.helpers.paths import ROOT

MODULE = '''
from dataclasses import replace

from feedback.readers import Reader, build_task, read_id
from feedback.readers.chat import build_answer, build_user_prompt
from feedback.types import Episode, Feedback, Turn


class Reviews(Reader):
    """A question, an answer and stars."""

    def __init__(self, answer: str = "answer"):
        self.answer = answer

    def parse(self, fields):
        messages = build_user_prompt(fields.get_text("question", required=True) or "")
        task = build_task(fields, messages, ("question", self.answer, "stars"))
        score, scale = fields.get_score("stars")
        item = Feedback(name="stars", score=score, scale=scale)
        return [Episode(read_id(fields, "id"), task, build_answer(fields.get_text(self.answer) or ""), (item,))]


class Fixed(Reviews):
    name = "fixed"
    takes_scale = False


class Wrong(Reviews):
    """Returns what its setting says."""

    def parse(self, fields):
        (episode,) = super().parse(fields)
        return {
            "none": None,
            "one": episode,
            "text": "episode",
            "dict": [{"prompt": "p"}],
            "id": [replace(episode, id=3)],
            "turn": [replace(episode, turns=(Turn("assistant", None),))],
            "off": [episode.add_feedback(Feedback(score=5.0))],
            "late": [episode.add_feedback(Feedback(revision="A wren.", turn=1))],
            "generator": (each for each in [episode]),
            "tuple": (episode,),
            "empty": [],
        }[self.answer]


class Half(Reader):
    """No method parse."""


made = Reviews("reply")
LIMIT = 5
'''


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    (tmp_path / "own_reader.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [{"question": "Name a bird.", "answer": "A duck.", "reply": "A cod.", "stars": stars} for stars in (1, 5)]
    path = tmp_path / "reviews.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_dotted_path_reads(reviews):
    low, high = read(reviews, "own_reader.Reviews", (1, 5))
    assert (low.response, low.score, high.score, high.feedback[0].scale) == ("A duck.", 0, 1, (1, 5))
    assert low.id == "line-1" and low.task.meta == {"reply": "A cod."}
    assert [episode.response for episode in read(reviews, "own_reader.Reviews:answer=reply", (1, 5))] == ["A cod."] * 2
    assert read(reviews, "own_reader.made", (1, 5))[0].response == "A cod."
    from own_reader import Reviews

    assert read(reviews, Reviews, (1, 5))[0] == read(reviews, Reviews("answer"), (1, 5))[0] == low
    assert stream(reviews, "own_reader.Reviews", (1, 5)).reader.name == "own_reader.Reviews"


def test_undeclared_scores_are_looked_through_as_in_rows(reviews):
    with pytest.raises(DataError, match=r"jsonl:1: stars: got 1 in a file whose scores run from 1 to 5.*Declare"):
        read(reviews, "own_reader.Reviews")
    with pytest.raises(DataError, match="in the format fixed carry their own"):
        read(reviews, "own_reader.Fixed", (1, 5))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_reader.Nothing", "got 'own_reader.Nothing', and own_reader has no Nothing"),
        ("own_readers.Reviews", "there is no module own_readers, .*PYTHONPATH=."),
        ("own_reader.LIMIT", "which is no subclass of feedback.readers.Reader"),
        ("json.JSONDecoder", "which is no subclass of feedback.readers.Reader"),
        ("own_reader.Half", "has no method parse, expected a reader with `def parse"),
        ("own_reader.Reviews:anwser=reply", "unexpected keyword argument 'anwser'.*names being answer"),
        ("own_reader.Reviews:reply", "expected name=value behind the colon, names being answer"),
        ("rows:answer=reply", "expected nothing behind its name"),
        ("reviews", "expected one of auto, shepherd, .*rows, or the dotted path of a reader of your own"),
    ],
)
def test_what_names_no_reader_is_refused_in_one_line(reviews, name, words):
    with pytest.raises(DataError, match=words) as error:
        read(reviews, name)
    assert str(error.value).startswith("config: format: got ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("none", "got None of type NoneType, expected a list of episodes"),
        ("one", "of type Episode, expected a list of episodes"),
        ("text", "got 'episode' of type str, expected a list of episodes"),
        ("dict", "of type dict, expected a list of episodes"),
        ("id", "got 3 of type int as the id of an episode, expected text"),
        ("turn", "of type NoneType as a turn, expected text"),
        ("off", "got 5.0 as a score of the episode line-1, expected a score from 0 to 1"),
        ("late", "got 1 as the turn of feedback on the episode line-1, expected one of its 1 answers"),
    ],
)
def test_what_a_reader_returns_is_checked(reviews, returned, said):
    with pytest.raises(DataError, match=r"config: own_reader.Wrong: ") as error:
        read(reviews, f"own_reader.Wrong:answer={returned}", (1, 5))
    assert said in str(error.value)


@pytest.mark.parametrize(("returned", "count"), [("generator", 2), ("tuple", 2), ("empty", 0)])
def test_any_list_of_episodes_is_taken(reviews, returned, count):
    assert len(read(reviews, f"own_reader.Wrong:answer={returned}", (1, 5))) == count


def test_shipped_readers_are_found_by_name_and_by_path():
    for reader in READERS:
        assert type(find_reader(reader.name)) is type(reader)
        path = f"{type(reader).__module__}.{type(reader).__qualname__}"
        assert type(find_reader(path)) is type(reader)
        assert issubclass(type(reader), Reader) and type(reader).__doc__
    assert find_reader("argilla:prompt=ask,revision=fixed") == Argilla("ask", revision="fixed")


def test_names_are_listed_in_the_docs():
    text = (ROOT / "docs" / "formats.md").read_text()
    assert not [name for name in FORMATS[1:] if f"`{name}`" not in text]


def test_the_reader_in_the_docs_reads(reviews, tmp_path):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "formats.md").read_text(), re.DOTALL)
    assert len(source.splitlines()) <= 30
    (tmp_path / "docs_reader.py").write_text(source)
    low, high = read(reviews, "docs_reader.Reviews:answer=reply")
    assert (low.response, low.score, high.score) == ("A cod.", 0, 1)
    reviews.write_text('{"question": "?", "answer": "a", "stars": 6}\n')
    with pytest.raises(DataError, match="stars: got 6.0, expected a number from 1 to 5"):
        read(reviews, "docs_reader.Reviews")


def test_a_file_of_no_format_is_one_message_with_the_map_to_type(reviews):
    assert detect(reviews) == "rows"
    with pytest.raises(DataError, match="--map prompt=question response=answer score=stars --scale 1 5") as error:
        read(reviews)
    assert error.value.line is None and "'question', 'answer', 'reply', 'stars'" in error.value.got
