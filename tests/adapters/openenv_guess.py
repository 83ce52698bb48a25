"""An environment served by OpenEnv's own server class on 127.0.0.1, as its users write one."""

import random
import threading
from contextlib import contextmanager

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app


class Guess(Action):
    message: str


class Hint(Observation):
    text: str


def last_byte(text: str) -> dict:
    """A policy that knows nothing guesses too: the last byte of its text, as a digit."""
    return {"message": str((text.encode() or b"0")[-1] % 10)}


class Guessing(Environment):
    """Guess a number: reward 1 for it, 0.5 for a neighbour, 0 for other numbers, none for words."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self.number = 0
        self.steps = 0

    def reset(self, seed=None, episode_id=None, limit=10, **kwargs):
        self.number = random.Random(seed).randrange(limit)
        self.steps = 0
        return Hint(text=f"A number below {limit}?")

    def step(self, action, timeout_s=None, **kwargs):
        self.steps += 1
        if action.message == "crash":
            raise RuntimeError("the number fell under the table")
        if not action.message.isdigit():
            return Hint(text="Not a number.")
        away = abs(int(action.message) - self.number)
        words = "higher" if int(action.message) < self.number else "lower"
        return Hint(text="yes" if not away else words, done=not away, reward={0: 1.0, 1: 0.5}.get(away, 0.0))

    @property
    def state(self):
        return State(step_count=self.steps)


@contextmanager
def served(port: int = 0):
    """Its server; yields the address and the server."""
    app = create_fastapi_app(Guessing, Guess, Hint, max_concurrent_envs=16)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(10)
