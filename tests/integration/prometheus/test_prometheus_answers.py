"""Answers that are none: what stands between the library and a Prometheus must never look like "no series"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import BadInput, Unreachable
from sluice.evidence.prometheus import PrometheusTelemetry
from tests.unit.evidence.expositions import served

LABELS = {"__name__": "serving_answers_total", "version": "v1", "traffic": "user"}


def found(*values: Any, **more: Any) -> str:
    series = [{"metric": LABELS, "values": [[100.0, value] for value in values]}] if values else []
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}} | more)


@contextmanager
def answering(status: int, body: str, asked: list[Any] | None = None) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append(self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: object) -> None:
            """The test's output stays clean."""

    with served(Answers) as url:
        yield url.removesuffix("/metrics")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, "<html>log in first</html>", "HTTP 200, but no answer of its API .*log in first"),
        (302, "", "HTTP 302"),
        (401, "Unauthorized", "HTTP 401.*Unauthorized"),
        (400, '{"status":"error","errorType":"bad_data","error":"parse error"}', "bad_data: parse error"),
        (422, '{"status":"error","errorType":"execution","error":"too many samples"}', "too many samples"),
        (503, "Service Unavailable", "HTTP 503.*Service Unavailable"),
        (503, found("1"), "HTTP 503"),
        (200, '{"status":"error","errorType":"timeout","error":"query timed out"}', "query timed out"),
        (200, found("1", warnings=["store east did not answer"]), "in part only: store east did not answer"),
        (200, found("NaN"), "serving_answers_total is NaN"),
        (200, found("+Inf"), "serving_answers_total is .Inf"),
        (200, found("1", "2")[:-20], "no answer of its API"),
        (200, found("1").replace("values", "value"), "no answer of its API"),
        (200, "[]", "no answer of its API"),
        (200, "", "no answer of its API"),
    ],
)
async def test_what_is_no_whole_answer_is_unreachable(status: int, body: str, says: str) -> None:
    with answering(status, body) as url:
        async with PrometheusTelemetry(url) as telemetry:
            with pytest.raises(
                Unreachable, match=f"(?s)Prometheus does not answer at {url}/api/v1/query: .*{says}.*curl"
            ):
                await telemetry.totals(["v1"], {})


async def test_an_answer_without_series_says_nothing_of_any_version() -> None:
    with answering(200, found()) as url:
        async with PrometheusTelemetry(url) as telemetry:
            assert await telemetry.totals(["v1"], {}) == {}


async def test_the_token_is_read_anew_for_every_query(tmp_path: Path) -> None:
    asked: list[Any] = []
    token = tmp_path / "token"
    with answering(200, found("3"), asked) as url:
        async with PrometheusTelemetry(url, token_file=token) as telemetry:
            with pytest.raises(BadInput, match=r"token file cannot be read: .*token"):
                await telemetry.totals(["v1"], {})
            for content in ("first\n", "second\n"):
                token.write_text(content)
                await telemetry.totals(["v1"], {})
    assert {headers["Authorization"] for headers in asked} == {"Bearer first", "Bearer second"}


async def test_an_address_that_is_none_is_unreachable() -> None:
    async with PrometheusTelemetry("prometheus:9090") as telemetry:
        with pytest.raises(Unreachable, match="Prometheus does not answer at prometheus:9090/api/v1/query"):
            await telemetry.totals(["v1"], {})
