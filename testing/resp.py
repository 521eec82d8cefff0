"""A real server where a Redis node would be: it answers what it was given answers for, in Redis's protocol."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BufferedIOBase


class Refusal(str):
    """An error as a node words it, such as `NOPERM …`."""


Answer = str | int | list["Answer"]
Answers = Mapping[str, Answer] | Callable[[str], Answer]


def worded(answer: Answer) -> bytes:
    """An answer as it is sent: a word, a number or a list of them, or a refusal."""
    if isinstance(answer, Refusal):
        return b"-%s\r\n" % str(answer).encode()
    if isinstance(answer, list):
        return b"*%d\r\n" % len(answer) + b"".join(map(worded, answer))
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    return b"$%d\r\n%s\r\n" % (len(answer.encode()), answer.encode())


def heard(stream: BufferedIOBase) -> list[str]:
    """One command; empty when the client has hung up."""
    count = int(stream.readline()[1:] or 0)
    return [stream.read(int(stream.readline()[1:]) + 2)[:-2].decode() for _ in range(count)]


class Node(socketserver.ThreadingTCPServer):
    """Answers a command with what `answers` has for its words, and everything else with OK; keeps what was said."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = (lambda said: answers.get(said, "OK")) if isinstance(answers, Mapping) else answers
        self.said = list[str]()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class Handler(socketserver.StreamRequestHandler):
    """One client of a test."""

    server: Node

    def handle(self) -> None:
        """Answer until it hangs up."""
        while words := heard(self.rfile):
            said = " ".join(words)
            self.server.said.append(said)
            self.wfile.write(worded(self.server.answer(said)))


@contextlib.contextmanager
def serving(answers: Answers) -> Iterator[Node]:
    """The server, for as long as a test needs it."""
    with Node(answers) as node:
        thread = threading.Thread(target=node.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield node
        finally:
            node.shutdown()
            thread.join()
