"""The page: who judges, one answer at a time, what is saved, and what training will read of it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fdt.cli.annotate.preview import Preview
from fdt.cli.annotate.sources import describe
from fdt.cli.annotate.store import AnnotationStore, Key, Mark
from fdt.cli.web.guard import parse_object
from fdt.report.sanitize import make_legible
from feedback.faults import DataError
from feedback.types import Episode

PAGES = Path(__file__).parent / "page"
COOKIE = "fdt_annotator"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; " + (
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
FILES = {"page.css": "text/css", "page.js": "text/javascript"}


def build_app(store: AnnotationStore, preview: Preview) -> Starlette:
    """The application of one log."""
    page = AnnotationPage(store, preview)
    routes = [
        Route("/", page.show_start),
        Route("/name", page.take_name, methods=["POST"]),
        Route("/answers/{number:int}", page.show_answer),
        Route("/answers/{number:int}", page.save, methods=["POST"]),
        Route("/answers/{number:int}/reading", page.show_reading),
        Route("/undo", page.undo, methods=["POST"]),
        Route("/next", page.show_next),
        Route("/{name}", show_file),
    ]
    return Starlette(routes=routes)


async def show_file(request: Request) -> Response:
    """Script and style; no address outside is asked for anything."""
    name = request.path_params["name"]
    if name not in FILES:
        return PlainTextResponse("not found", 404)
    return Response((PAGES / name).read_bytes(), headers=HEADERS, media_type=FILES[name])


class AnnotationPage:
    """The handlers. They run one after the other, so that judgements of several people are saved in turn."""

    def __init__(self, store: AnnotationStore, preview: Preview):
        self.store = store
        self.preview = preview
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self.templates.filters["legible"] = make_legible

    async def show_start(self, request: Request) -> Response:
        """Asks for a name, or goes on where this person stopped."""
        annotator = read_annotator(request)
        if annotator is None or "name" in request.query_params:
            return self._render("start.html", annotator=annotator or "", problem="")
        return await self.show_next(request)

    async def take_name(self, request: Request) -> Response:
        """Keeps the name in a cookie."""
        given = parse_qs((await request.body()).decode(errors="replace")).get("name", [""])[0].strip()
        if problem := check_name(given):
            return self._render("start.html", 400, annotator=given, problem=problem)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, quote(given), max_age=365 * 86400, httponly=True, samesite="strict")
        return response

    async def show_next(self, request: Request) -> Response:
        """The next answer that this person has not judged; the last one where there is none."""
        self.store.refresh()
        annotator = read_annotator(request)
        if annotator is None:
            return RedirectResponse("/", 303)
        after = request.query_params.get("after", "")
        start = int(after) - 1 if after.isdecimal() else -1
        place = self.store.find_unjudged(annotator, start)
        last = len(self.store.episodes) - 1
        return RedirectResponse(f"/answers/{(last if place is None else place) + 1}", 303)

    async def show_answer(self, request: Request) -> Response:
        """One answer with its conversation and what this person said of it."""
        self.store.refresh()
        annotator = read_annotator(request)
        episode = self._find(request)
        if annotator is None:
            return RedirectResponse("/", 303)
        if episode is None:
            return PlainTextResponse("There is no such answer.", 404)
        number = request.path_params["number"]
        messages = describe(episode)
        marks = {turn: mark for (name, turn), mark in self.store.read_marks(annotator).items() if name == episode.id}
        low, high = self.store.points
        state = {
            "number": number,
            "count": len(self.store.episodes),
            "low": low,
            "high": high,
            "turns": [message["place"] for message in messages if message["is_answer"]],
            "texts": {str(m["place"]): m["text"] for m in messages if m["is_answer"]},
            "response": episode.response,
            "marks": {"" if turn is None else str(turn): describe_mark(mark) for turn, mark in marks.items()},
        }
        return self._render(
            "answer.html",
            annotator=annotator,
            episode=episode,
            messages=messages,
            state=json.dumps(state),
            number=number,
            count=len(self.store.episodes),
            judged=self.store.count_judged(annotator),
            points=range(low, high + 1),
            marks=marks,
            others=self._list_others(episode, annotator),
            log=self.store.path.name,
        )

    async def save(self, request: Request) -> Response:
        """Puts a judgement on record; it is on the disk when the reply is sent."""
        annotator = read_annotator(request)
        episode = self._find(request)
        if annotator is None or episode is None:
            return JSONResponse({"problem": "No such answer, or no name: load the page again."}, 404)
        try:
            key, mark = read_mark(parse_object(await request.body()), episode, self.store.points)
        except ValueError as error:
            return JSONResponse({"problem": str(error)}, 400)
        return self._try(lambda: self._save(annotator, key, mark))

    async def undo(self, request: Request) -> Response:
        """Takes the last change of this person back and says where it was."""
        annotator = read_annotator(request)
        if annotator is None:
            return JSONResponse({"problem": "No name: load the page again."}, 404)
        return self._try(lambda: self._undo(annotator))

    async def show_reading(self, request: Request) -> Response:
        """What training will read of the answer with the feedback that stands."""
        self.store.refresh()
        episode = self._find(request)
        if episode is None:
            return PlainTextResponse("There is no such answer.", 404)
        judged = self.store.read_feedback(episode)
        text = await run_in_threadpool(self.preview.render_safely, request.path_params["number"], judged)
        return PlainTextResponse(text, headers=HEADERS)

    def _save(self, annotator: str, key: Key, mark: Mark) -> dict[str, Any]:
        is_new = self.store.save(annotator, key, mark)
        return {"saved": is_new, "judged": self.store.count_judged(annotator), "count": len(self.store.episodes)}

    def _undo(self, annotator: str) -> dict[str, Any]:
        key = self.store.undo(annotator)
        place = None if key is None else self.store.find_place(key[0])
        return {"number": None if place is None else place + 1}

    def _try(self, change: Callable[[], dict[str, Any]]) -> Response:
        try:
            return JSONResponse(change(), headers=HEADERS)
        except DataError as error:
            return JSONResponse({"problem": f"not saved: {error}"}, 507, HEADERS)

    def _find(self, request: Request) -> Episode | None:
        number = request.path_params["number"]
        return self.store.episodes[number - 1] if 1 <= number <= len(self.store.episodes) else None

    def _list_others(self, episode: Episode, annotator: str) -> list[dict[str, Any]]:
        """Feedback of others, which is shown when it is asked for, so that it does not colour the judgement."""
        return [
            {"item": item, "by": item.annotator or item.source}
            for item in self.store.read_feedback(episode).feedback
            if item.annotator != annotator
        ]

    def _render(self, name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self.templates.get_template(name).render(values), status, HEADERS)


def read_annotator(request: Request) -> str | None:
    """The name that the browser brings; None where it has none, or one that the page would not take."""
    given = unquote(request.cookies.get(COOKIE, ""))
    return given if given and not check_name(given) else None


def check_name(name: str) -> str:
    """What is wrong with an annotator's name; empty where nothing is."""
    if not name:
        return "A name is needed: it stands beside each of your judgements."
    if len(name) > 80 or any(unicodedata.category(letter)[0] == "C" for letter in name):
        return "At most 80 characters, none of them invisible."
    return ""


def describe_mark(mark: Mark) -> dict[str, Any]:
    """A mark for the page's script."""
    return {"score": mark.score, "critique": mark.critique or "", "revision": mark.revision or ""}


def read_mark(given: dict[str, Any], episode: Episode, points: tuple[int, int]) -> tuple[Key, Mark]:
    """What the page's script sent. A correction that changes nothing is none.

    Raises:
        ValueError: a message that is no answer, a score off the scale, or other values than text.
    """
    turn = given.get("turn")
    answers = {message["place"]: message["text"] for message in describe(episode) if message["is_answer"]}
    if turn is not None and (type(turn) is not int or turn not in answers):
        raise ValueError("That message is no answer.")
    score = given.get("score")
    if score is not None and (type(score) is not int or not points[0] <= score <= points[1]):
        raise ValueError(f"A score is one of {points[0]} to {points[1]}.")
    texts = {}
    for name in ("critique", "revision"):
        text = given.get(name)
        if text is not None and not isinstance(text, str):
            raise ValueError(f"The {name} is no text.")
        texts[name] = text.strip() or None if text else None
    if texts["revision"] == (episode.response if turn is None else answers[turn]).strip():
        texts["revision"] = None
    return (episode.id, turn), Mark(score, texts["critique"], texts["revision"])
