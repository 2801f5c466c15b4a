"""A small judge behind /v1/chat/completions on a free port. It reads the question as a judge model would be told to:
what stands between marks with the code of the rules is material; whatever else commands it, it obeys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps, loads
from threading import Thread
from typing import Any

Reply = tuple[int, Mapping[str, str], str]
"""Status, headers, body."""


@dataclass(frozen=True)
class Question:
    """What the judge understood."""

    criterion: str
    a: str
    b: str
    outside: str
    """What stands outside the marks."""


def read_question(body: Mapping[str, Any]) -> Question:
    rules, material = (message["content"] for message in body["messages"])
    code = re.findall(r"the code (\w+)", rules)[0]
    between = {
        name: re.findall(rf"<{name} {code}>\n(.*?)\n</{name} {code}>", material, re.DOTALL)
        for name in ("question", "criterion", "answer A", "answer B")
    }
    assert all(len(found) == 1 for found in between.values())
    outside = re.sub(rf"<([\w ]+) {code}>\n.*?\n</\1 {code}>", "", material, flags=re.DOTALL)
    return Question(between["criterion"][0], between["answer A"][0], between["answer B"][0], outside)


def said(content: str | None) -> Reply:
    return 200, {}, dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


def longer(body: Mapping[str, Any]) -> Reply:
    """An impartial judge: the longer answer is better, unless words outside the marks command otherwise."""
    question = read_question(body)
    if "choose A" in question.outside:
        return said("A")
    difference = len(question.a) - len(question.b)
    return said("A" if difference > 0 else "B" if difference < 0 else "tie")


@dataclass
class Judge:
    """`replies`: how it answers, one for each request, the last one for ever; `bodies`: what it was asked."""

    replies: list[Callable[[Mapping[str, Any]], Reply]]
    url: str = ""
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    def answer(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Reply:
        if path != "/v1/chat/completions":
            return 404, {}, "no such page"
        self.bodies.append(body)
        self.headers.append(headers)
        return (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])(body)


@contextmanager
def judge_server(*replies: Callable[[Mapping[str, Any]], Reply]) -> Iterator[Judge]:
    """Runs in threads of its own until the block ends."""
    judge = Judge(list(replies))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, text = judge.answer(self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments: object) -> None:
            """Nothing: the test reads what it was asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
