"""Asks a gateway for numbered prompts, as a process of its own: `python -m tests.helpers.asking URL FOLDER COUNT`."""

import sys

from feedback.gateway import Gateway, Request

if __name__ == "__main__":
    url, folder, count = sys.argv[1:]
    gateway = Gateway("m", url, cache=folder, concurrency=20, timeout=60.0)
    replies = gateway.ask([Request(({"role": "user", "content": str(number)},)) for number in range(int(count))])
    print("\n".join(reply.text for reply in replies))
