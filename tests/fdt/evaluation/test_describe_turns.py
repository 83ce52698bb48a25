"""What a record says of an episode of several turns."""

from fdt.evaluation.base import describe_turns
from feedback.types import DONE, Episode, Feedback, Task, Turn

TASK = Task("t", ({"role": "user", "content": "Capital?"},))


def test_turns_have_their_calls_and_what_was_said_of_them():
    call = {"id": "1", "name": "search", "arguments": "{}"}
    turns = (Turn("assistant", "look", calls=(call,)), Turn("tool", "Paris", call_id="1"), Turn("assistant", "Paris"))
    said = (
        Feedback("human", "kim", score=0.25, text="Needless.", turn=0),
        Feedback("llm", "judge", name="style", text="Short.", turn=1),
        Feedback(score=1.0),
    )
    found = describe_turns(Episode("e", TASK, turns, said, end_reason=DONE))
    assert (found["turns"], found["ended"]) == (2, DONE)
    first, reply, second = found["conversation"]
    assert first["calls"] == [call]
    assert first["feedback"] == [
        {"source": "human", "annotator": "kim", "name": "score", "score": 0.25, "text": "Needless."}
    ]
    assert reply == {"role": "tool", "text": "Paris"}
    assert second["feedback"][0]["score"] is None
    assert second["feedback"][0]["name"] == "style"


def test_a_single_turn_is_no_conversation():
    assert describe_turns(Episode("e", TASK, (Turn("assistant", "Paris"),), end_reason=DONE)) == {}
