"""The REST client against a server that answers as Airflow does on SQLite: a locked database is not a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from sandbox.airflow.client import DATABASE_RETRIES, Client
from sandbox.airflow.errors import Rejected

LOCKED = {"detail": {"reason": "Database error", "statement": "hidden", "orig_error": "hidden", "message": "Serious"}}
BROKEN = {"detail": "Internal Server Error"}


class Scripted(HTTPServer):
    """Gives the scripted answers to PATCH in turn, the last one for ever; logs in anybody."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, object]] = []
        self.asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        self._answer(201, {"access_token": "any"})

    def do_PATCH(self) -> None:
        status, body = self.server.answers[min(self.server.asked, len(self.server.answers) - 1)]
        self.server.asked += 1
        self._answer(status, body)

    def _answer(self, status: int, body: object) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """What is asked is counted, not printed."""


@pytest.fixture
def airflow() -> Iterator[Scripted]:
    server = Scripted()
    thread = Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def mark_failed(airflow: Scripted) -> object:
    with Client(f"http://127.0.0.1:{airflow.server_port}", "password") as client:
        return client.mark_run("dag", "run", "failed")["state"]


def test_a_locked_database_is_asked_again(airflow: Scripted) -> None:
    airflow.answers = [(500, LOCKED), (200, {"state": "failed"})]

    assert mark_failed(airflow) == "failed"
    assert airflow.asked == 2


def test_a_database_that_stays_locked_is_reported_after_bounded_tries(airflow: Scripted) -> None:
    airflow.answers = [(500, LOCKED)]

    with pytest.raises(Rejected, match=r"500 .*Database error"):
        mark_failed(airflow)
    assert airflow.asked == 1 + DATABASE_RETRIES


def test_any_other_server_error_is_reported_at_once(airflow: Scripted) -> None:
    airflow.answers = [(500, BROKEN)]

    with pytest.raises(Rejected, match="500 Internal Server Error"):
        mark_failed(airflow)
    assert airflow.asked == 1
