"""Which field a column may be meant for, by the words of its name and the kind of its values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from feedback.readers.columns.words import parse_flag, parse_rating, parse_verdict

WORDS: dict[str, frozenset[str]] = {
    "revision": frozenset(
        "revision revised correction corrected rewrite rewritten improved improvement edited edit better fixed "
        "verbesserung verbessert korrektur bessere besser corrigée corrigé corregida corregido mejor".split()
    ),
    "reference": frozenset("reference gold golden target truth solution expected ideal".split()),
    "critique": frozenset(
        "critique critiques criticism feedback comment comments review remark remarks rationale justification "
        "explanation reason reasons note notes assessment judgement judgment mistake mistakes flaw flaws wrong "
        "suggestion suggestions weakness weaknesses "
        "kommentar kommentare kritik begründung commentaire commentaires comentario comentarios commento "
        "评论 评语".split()
    ),
    "score": frozenset(
        "score scores rating ratings reward rewards grade grades star stars label labels points mark marks thumb "
        "thumbs vote votes verdict quality correct correctness passed resolved solved success accepted liked "
        "accuracy helpfulness usefulness harmlessness faithfulness good helpful useful like likes upvote upvotes kto "
        "bewertung punkte puntuación puntaje punteggio valutazione 评分 分数".split()
    ),
    "response": frozenset(
        "response answer output completion generation generated reply prediction assistant said "
        "antwort réponse reponse respuesta risposta 回答 答案".split()
    ),
    "prompt": frozenset(
        "prompt question instruction query input request problem user asked ask "
        "frage anfrage pregunta domanda 问题 提示".split()
    ),
    "annotator": frozenset("annotator rater reviewer worker labeler labeller evaluator judge".split()),
}
"""Words of a column's name that stand for a field; the first field that fits counts ("better answer": a revision)."""
RATED = frozenset("score scores rating ratings reward rewards grade grades star stars thumb thumbs vote votes".split())
"""Words that say a score so plainly that a column of other texts (B+, poor) is one that cannot be read yet."""
ANSWERS = frozenset("answers responses completions generations outputs replies candidates".split())
"""Words of a column that holds several answers to one prompt."""
NESTED = frozenset("feedbacks annotations judgements judgments evaluations critiques comments reviews".split())
"""Words of a column whose lists hold feedback."""
UNMISTAKABLE: dict[str, frozenset[str]] = {
    "score": WORDS["score"] - {"marks", "mark", "quality"},
    "critique": frozenset(
        "critique critiques criticism feedback comment comments review remark remarks mistake mistakes flaw flaws "
        "wrong suggestion suggestions weakness weaknesses".split()
    ),
    "revision": frozenset("revision revised correction corrected rewrite rewritten improved edited better".split()),
}
"""Words that say feedback so plainly that a column with one of them is never passed over in silence."""
TRUTHS = frozenset("reference references gold golden truth solution gts".split())
"""Words that say a reference as plainly; of an `expected answer` and a `correct output` two words do."""
TELLING: dict[str, frozenset[str]] = {
    "score": UNMISTAKABLE["score"]
    | frozenset("overall satisfaction csat nps desirable preferred sentiment reaction emoji acc".split())
    | {"strength", "margin", "quality", "safe", "safety", "pass"},
    "critique": WORDS["critique"]
    | frozenset("critic evaluation opinion complaint issue issues improvement improvements".split()),
    "revision": UNMISTAKABLE["revision"] | {"edit", "refined", "refinement"},
}
"""More such words, for files whose columns have the meaning that their names say and no other."""
ALONE: dict[str, frozenset[str]] = {
    "score": frozenset("value winner status outcome result decision".split()),
    "critique": frozenset("error errors bug bugs hallucination hallucinations".split()),
}
"""Words that say feedback as the whole name of such a column, and less beside other words."""
BAD = frozenset(
    "error errors erroneous wrong incorrect mistake mistakes mistaken flaw flaws flawed fault faults faulty weakness "
    "weaknesses issue issues complaint complaints bug bugs buggy bad fail fails failed failing failure failures "
    "rejected undesirable unsuccessful unsolved unresolved unhelpful useless broken invalid down dislike dislikes "
    "disliked downvote downvotes downvoted hallucination hallucinations hallucinated hallucinates toxic toxicity "
    "harmful harm harmfulness unsafe offensive biased not".split()
)
"""Words of a name under which true, or a high number, says bad: `error: true`, `thumbs_down`, `mistakes: 3`."""
MENDED = frozenset("no none free without fixed solved resolved corrected handled pass passed".split())
"""Words that turn those into good: `no_errors`, `bug_fixed`."""
ALTERED = frozenset("ideal preferred suggested modified updated fixed best accepted human new desired".split())
"""Words that with one of an answer say a correction: `human_answer`, `ideal_response`."""
DECISIONS = frozenset({"accept", "reject", "ignore"})
"""What Prodigy writes into its column `answer`."""
CONVERSATION = frozenset("conversation conversations dialogue dialog chat turns".split())
"""Words of a name that stand for a whole dialogue, where the values are lists of messages."""
ABOUT = frozenset(
    "id ids name names model time date at by count num number min max scale type version threshold logprob url source "
    "status length tokens seconds prompt description rubric criteria result results finish stop done".split()
)
"""Words that make a name speak of something about the feedback, and not of the feedback itself."""


def split_name(name: str) -> list[str]:
    """The words of a column's name, in lower case: `Better answer`, `better_answer` and `betterAnswer` are one."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_\d]+", apart.lower()) if word]


def find_kind(values: Iterable[Any]) -> str | None:
    """score, text, messages or list: what all the values that are not absent can be; None for anything else. Lists of
    objects may be messages."""
    given = [value for value in values if value is not None and value != ""]
    if not given:
        return None
    if all(_is_score(value) for value in given):
        return "score"
    if all(isinstance(value, str) for value in given):
        return "text"
    if not all(isinstance(value, list) for value in given):
        return None
    return "messages" if all(isinstance(item, dict) for value in given for item in value) else "list"


def suggest_field(name: str, values: Sequence[Any]) -> str | None:
    """The field that a column seems to be meant for; None where nothing speaks for one."""
    words = split_name(name)
    kind = find_kind(values)
    if kind is None or (len(words) > 1 and words[-1] in ABOUT - WORDS["prompt"]):
        return None
    if is_reversed(name, kind):
        return None
    if kind == "score" and not (WORDS["score"] | WORDS["critique"]).isdisjoint(words):
        return "score"
    if kind == "score" and not all(isinstance(value, str) for value in values):
        return None
    if kind == "list":
        return None
    if kind == "messages" and not CONVERSATION.isdisjoint(words):
        return "messages"
    fitting = ("prompt", "response") if kind == "messages" else (field for field in WORDS if field != "score")
    found = next((field for field in fitting if not WORDS[field].isdisjoint(words)), None)
    return "messages" if found is None and kind == "messages" and any(map(_is_dialogue, values)) else found


def _is_dialogue(value: Any) -> bool:
    """Whether a list holds messages of a user and of an assistant."""
    roles = {str(item.get("role", item.get("from"))) for item in value or () if isinstance(item, dict)}
    return not roles.isdisjoint(("user", "human")) and not roles.isdisjoint(("assistant", "gpt"))


def find_unmistakable(name: str, values: Sequence[Any], is_plain: bool = False) -> str | None:
    """score, critique or revision, where a column's name and values can hardly mean anything else; else None.
    `is_plain`: names are anybody's own, so that more words tell."""
    told = TELLING if is_plain else UNMISTAKABLE
    words = split_name(name)
    kind = find_kind(values)
    if is_plain and len(words) == 1 and kind in ("score", "text") and (alone := _find_alone(words[0], kind, values)):
        return alone
    if kind not in ("score", "text") or not ABOUT.isdisjoint(words):
        return None
    if kind == "score" and is_plain and not BAD.isdisjoint(words):
        return "score"
    if kind == "score":
        rated = told["score"] | (told["critique"] if _are_ratings(values) else frozenset())
        is_asked = is_plain and "rate" in words[: max(1, len(words) - 1)]  # a word error rate is no request to rate
        return "score" if is_asked or not rated.isdisjoint(words) else None
    if is_plain and not (ALTERED.isdisjoint(words) or WORDS["response"].isdisjoint(words)):
        return "revision"
    found = (field for field in ("revision", "critique") if not told[field].isdisjoint(words))
    return next(found, None if RATED.isdisjoint(words) else "score")


def is_reversed(name: str, field: str | None) -> bool:
    """Whether a column would be learned the wrong way round as this field: of a score whose name says that true, or a
    high number, is bad."""
    words = split_name(name)
    return field == "score" and not BAD.isdisjoint(words) and MENDED.isdisjoint(words)


def _find_alone(word: str, kind: str, values: Sequence[Any]) -> str | None:
    """score or critique, where one word is a whole name; a state is a score where it says good or bad."""
    given = [value for value in values if value is not None and value != ""]
    if word == "answer" and set(given) <= DECISIONS:
        return "score"
    if word in ALONE["score"]:
        is_number = word == "value" and kind == "score"
        is_said = all(parse_flag(value) is not None or parse_verdict(value) is not None for value in given)
        return "score" if word == "winner" or is_number or is_said else None
    return "critique" if word in ALONE["critique"] and kind == "text" else None


def names_reference(name: str, values: Sequence[Any], is_alone: bool = False) -> bool:
    """Whether a column can hardly mean anything but the right answer; `is_alone`: no answer stands beside it."""
    words = split_name(name.rpartition(".")[2])  # the objects around it say nothing: reward_model.ground_truth
    if find_kind(values) not in ("score", "text") or not ABOUT.isdisjoint(words):
        return False
    is_right = not {"expected", "correct", "right"}.isdisjoint(words) and not WORDS["response"].isdisjoint(words)
    alone = words in (["answer"], ["target"], ["final", "answer"]) if is_alone else words in (["ideal"], ["expected"])
    return is_right or not TRUTHS.isdisjoint(words) or alone


def holds_lists(name: str, values: Sequence[Any], known: Iterable[str] = ()) -> bool:
    """Whether a column holds feedback in lists, of which no map makes a field, and of a kind that is not known."""
    words = split_name(name)
    if find_kind(values) not in ("messages", "list") or not any(values) or not ABOUT.isdisjoint(words):
        return False
    told = {field: UNMISTAKABLE[field] | NESTED for field in ("critique", "score")}
    return any(not told[field].isdisjoint(words) for field in told.keys() - set(known))


def names_system(name: str, values: Sequence[Any]) -> bool:
    """Whether a column holds the words of a system message."""
    words = split_name(name)
    alone = "system" in words and not set(words) - {"system", "prompt", "message", "instruction", "instructions"}
    parts = [part for value in values for part in (value if isinstance(value, list) else [])]
    return alone and (find_kind(values) == "text" or any(isinstance(part, dict) and "text" in part for part in parts))


def holds_answers(name: str, values: Sequence[Any]) -> bool:
    """Whether a column holds lists of several answers to one prompt."""
    if ANSWERS.isdisjoint(split_name(name)) or find_kind(values) not in ("messages", "list"):
        return False
    first = next((item for value in values for item in value or ()), None)
    return first is not None and not (isinstance(first, dict) and ("role" in first or "from" in first))


def _are_ratings(values: Iterable[Any]) -> bool:
    """Whether the values are ratings or verdicts, and none of them may be true or false alone."""
    given = [value for value in values if value is not None and value != ""]
    return all(
        _to_number(value) is not None or parse_rating(value) or parse_verdict(value) is not None for value in given
    )


def read_range(values: Sequence[Any]) -> tuple[float, float] | None:
    """Lowest and highest of the numbers among the values, and of what they are out of; None where there is none."""
    found = [number for value in values if (number := _to_number(value)) is not None]
    ratings = [rating for value in values if (rating := parse_rating(value)) is not None and not rating.is_share]
    found += [number for rating in ratings for number in (rating.value, rating.highest) if number is not None]
    return (min(found), max(found)) if found else None


def _is_score(value: Any) -> bool:
    return any(read(value) is not None for read in (_to_number, parse_flag, parse_verdict, parse_rating))


def _to_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value.count(",") == 1 and "." not in value:
        value = value.replace(",", ".")  # a decimal comma
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
