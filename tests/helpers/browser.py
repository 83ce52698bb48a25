"""A headless Chromium that tests type into, over its DevTools protocol."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0 "
    "--remote-allow-origins=* --window-size=1300,900"
).split()
KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "ArrowRight": (39, ""),
    "ArrowLeft": (37, ""),
}


class Browser:
    """One page. `press` types keys as a keyboard does, `run` evaluates an expression in the page."""

    def __init__(self, profile: Path):
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.numbers = itertools.count(1)
        self.messages: list[dict[str, Any]] = []
        port_file = profile / "DevToolsActivePort"
        for _ in range(600):
            if port_file.exists() and len(port_file.read_text().split()) == 2:
                break
            time.sleep(0.1)
        port, path = port_file.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as root:
            root.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(root.recv(timeout=30))["result"]["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.socket = connect(f"ws://127.0.0.1:{port}/devtools/page/{page}", max_size=None)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.messages.append(message)

    def run(self, expression: str) -> Any:
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> Any:
        """The expression's value as soon as it is true; a page that is being loaded has none."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if value := self.run(expression):
                    return value
            except AssertionError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"never true: {expression}; the page says {self.run('document.body.innerText')!r}")

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.wait(
            f"document.readyState === 'complete' && location.href !== 'about:blank' && {json.dumps(address)} != ''"
        )

    def press(self, key: str, ctrl: bool = False) -> None:
        code, text = KEYS.get(key, (ord(key[0].upper()), key))
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if ctrl else 0}
        self.send("Input.dispatchKeyEvent", type="keyDown", text="" if ctrl else text, **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def list_complaints(self) -> list[str]:
        """Errors on the console, refusals of the content policy and failed scripts among them."""
        self.run("1")
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown")
        return [json.dumps(message) for message in self.messages if message.get("method") in kinds]

    def list_hosts(self) -> set[str]:
        """The hosts that the page asked for anything."""
        asked = [m["params"]["request"]["url"] for m in self.messages if m.get("method") == "Network.requestWillBeSent"]
        return {re.sub(r"^\w+://([^/]*).*", r"\1", url) for url in asked if "://" in url}
