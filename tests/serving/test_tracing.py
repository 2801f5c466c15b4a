"""A request is found again in the trace that it belongs to, and nobody pays for spans that go nowhere."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from random import Random

import httpx
import pytest
from hand_http import ANSWER, DECODE_SECONDS, PREFILL_SECONDS, answering, ask, client
from otlp_receiver import Receiver, plain, receiving
from server_process import MODEL_IMAGE, wait_for

from serving.api import create_app
from serving.ask import Arrival
from serving.config import ConfigError, Settings
from serving.generation import Ending
from serving.outcome import Outcome
from serving.spans import CLOSE_SECONDS, Spans
from serving.trace import TraceContext, trace_context
from serving.tracing import TraceHeaders

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
OTHER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
W3C = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
B3_SINGLE = {"b3": f"{TRACE}-{SPAN}-1-{PARENT}"}
B3_SEVERAL = {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-parentspanid": PARENT, "x-b3-sampled": "1"}
NAME = "text_completion model"


def read(headers: dict[str, str]) -> TraceContext:
    return trace_context((name.encode(), value.encode()) for name, value in headers.items())


@pytest.mark.parametrize("headers", [W3C, B3_SINGLE, B3_SEVERAL], ids=["w3c", "b3", "x-b3"])
def test_each_format_says_trace_caller_and_decision(headers: dict[str, str]) -> None:
    context = read(headers)
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, SPAN, True)
    assert context.answer_headers == headers


@pytest.mark.parametrize(
    ("headers", "sampled"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, False),
        ({"traceparent": f"00-{TRACE}-{SPAN}-03"}, True),
        ({"b3": f"{TRACE}-{SPAN}-0"}, False),
        ({"b3": f"{TRACE}-{SPAN}-d"}, True),
        ({"b3": f"{TRACE}-{SPAN}"}, None),
        ({"b3": "0"}, False),
        ({"x-b3-sampled": "0"}, False),
        ({"x-b3-sampled": "true"}, True),
        ({"x-b3-flags": "1", "x-b3-traceid": TRACE, "x-b3-spanid": SPAN}, True),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN}, None),
        ({}, None),
    ],
)
def test_the_callers_decision_is_read(headers: dict[str, str], sampled: bool | None) -> None:
    assert read(headers).sampled is sampled


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{TRACE}-{SPAN}"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01-more"},
        {"traceparent": f"00-{TRACE.upper()}-{SPAN}-01"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"b3": f"{TRACE[:20]}-{SPAN}-1"},
        {"b3": f"{TRACE}-{SPAN}-2"},
        {"b3": f"{'0' * 32}-{SPAN}-1"},
        {"x-b3-traceid": TRACE},
        {"x-b3-spanid": SPAN},
        {"b3": f"{TRACE}-{SPAN}-1-{PARENT}\x01"},
        {"x-request-id": "two words"},
        {"x-request-id": "x" * 129},
        {"tracestate": "a=1"},
    ],
)
def test_what_does_not_keep_to_its_format_is_as_if_it_was_not_there(headers: dict[str, str]) -> None:
    assert read(headers) == TraceContext()


def test_a_header_of_a_later_version_may_have_more_parts() -> None:
    assert read({"traceparent": f"01-{TRACE}-{SPAN}-01-more"}).trace_id == TRACE


def test_a_traceparent_that_comes_twice_is_none() -> None:
    twice = [(b"traceparent", W3C["traceparent"].encode())] * 2
    assert trace_context(twice) == TraceContext()


def test_a_tracestate_may_come_in_several_headers() -> None:
    states = [(b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert trace_context([(b"traceparent", W3C["traceparent"].encode()), *states]).state == "a=1,b=2"


def test_short_trace_ids_of_b3_are_filled_up() -> None:
    assert read({"b3": f"{TRACE[:16]}-{SPAN}-1"}).trace_id == "0" * 16 + TRACE[:16]


def test_w3c_wins_over_b3_and_all_formats_are_answered() -> None:
    both = {"traceparent": f"00-{OTHER_TRACE}-{SPAN}-00"} | B3_SINGLE | B3_SEVERAL
    context = read(both)
    assert (context.trace_id, context.sampled) == (OTHER_TRACE, False)
    assert context.answer_headers == both


def test_no_header_is_too_odd_to_be_read() -> None:
    names, rng = [*W3C, *B3_SINGLE, *B3_SEVERAL, "x-b3-flags", "tracestate"], Random(0)
    for _ in range(2000):
        value = bytearray(rng.choice([*W3C.values(), *B3_SINGLE.values(), *B3_SEVERAL.values()]).encode())
        for _ in range(rng.randrange(3)):
            value[rng.randrange(len(value))] = rng.randrange(256)
        context = trace_context((name.encode(), bytes(value)) for name in rng.sample(names, 3))
        assert len(context.trace_id) in (0, 32)
        assert len(context.parent_id) in (0, 16)


class Traced:
    """A service with spans that go to a receiver."""

    def __init__(self, receiver: Receiver, fault: str = "", **settings: object) -> None:
        self.warnings: list[str] = []
        configured = Settings(otel_exporter_otlp_endpoint=receiver.endpoint, revision="r7", version="v7")
        self.spans = Spans(configured, self.warnings.append)
        self.service = answering(fault, [self.spans], **settings)
        self.app = TraceHeaders(create_app(self.service), self.spans)

    def ask(self, headers: dict[str, str] | None = None, **parameters: object) -> httpx.Response:
        return asyncio.run(ask(self.app, headers, **parameters))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_without_spans_the_headers_go_out_as_they_came() -> None:
    sent = {"x-request-id": "r-1", "tracestate": "a=1"} | W3C | B3_SINGLE | B3_SEVERAL
    answer = asyncio.run(ask(TraceHeaders(create_app(answering())), sent))
    assert sent.items() <= answer.headers.items()


def test_without_headers_none_are_made_up() -> None:
    answer = asyncio.run(ask(TraceHeaders(create_app(answering()))))
    assert not {"x-request-id", *W3C, *B3_SINGLE, *B3_SEVERAL} & answer.headers.keys()


def test_a_refusal_and_a_stream_carry_them_too() -> None:
    app = TraceHeaders(create_app(answering()))
    for parameters in ({"n": 2}, {"stream": True}):
        assert asyncio.run(ask(app, W3C, **parameters)).headers["traceparent"] == W3C["traceparent"]


def test_outcomes_know_the_trace() -> None:
    outcomes: list[Outcome] = []
    app = TraceHeaders(create_app(answering(listeners=[outcomes.append])))
    asyncio.run(ask(app, {"x-request-id": "r-1"} | B3_SINGLE))
    asyncio.run(ask(app, W3C, n=2))
    assert [outcome.arrival.trace.trace_id for outcome in outcomes] == [TRACE, TRACE]
    assert outcomes[0].arrival.trace.request_id == "r-1"


def test_without_an_endpoint_opentelemetry_is_not_imported() -> None:
    code = "import sys, serving.lifecycle, serving.tracing; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=MODEL_IMAGE, check=False).returncode == 0


def test_a_request_is_a_span_of_the_server_with_its_phases_below(receiver: Receiver) -> None:
    traced = Traced(receiver)
    before = time.time_ns()
    traced.ask(W3C)
    traced.spans.close()
    server = receiver.named(NAME)
    assert (server.trace_id.hex(), server.parent_span_id.hex(), server.kind) == (TRACE, SPAN, server.SPAN_KIND_SERVER)
    assert before <= server.start_time_unix_nano <= time.time_ns()
    began, seconds = server.start_time_unix_nano, 1_000_000_000
    times = {s.name: (s.start_time_unix_nano - began, s.end_time_unix_nano - began) for s in receiver.spans}
    first, last = int(PREFILL_SECONDS * seconds), int((PREFILL_SECONDS + DECODE_SECONDS) * seconds)
    assert times == {"queue": (0, 0), "prefill": (0, first), "decode": (first, last), NAME: (0, last)}
    below = [span for span in receiver.spans if span is not server]
    assert {(s.trace_id.hex(), s.parent_span_id) for s in below} == {(TRACE, server.span_id)}


def test_the_span_says_what_was_asked_and_answered_but_not_the_texts(receiver: Receiver) -> None:
    traced = Traced(receiver)
    answer = traced.ask({"x-request-id": "r-1"}, prompt="12+34=", temperature=0, stop=["secret"])
    traced.spans.close()
    told = plain(receiver.named(NAME).attributes)
    assert told == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": "model",
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 4,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.response.id": answer.json()["id"].removeprefix("cmpl-"),
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": len("12+34="),
        "gen_ai.usage.output_tokens": len(ANSWER),
        "http.request.header.x-request-id": ("r-1",),
        "serving.interface": "completions",
        "serving.traffic": "user",
        "serving.reason": "length",
    }


def test_the_resource_is_the_model_in_its_version(receiver: Receiver) -> None:
    traced = Traced(receiver)
    traced.ask()
    traced.spans.close()
    expected = {"service.name": "model", "service.version": "v7", "serving.revision": "r7"}
    assert expected.items() <= receiver.resources[0].items()
    assert receiver.paths == {"/v1/traces"}


@pytest.mark.parametrize("headers", [W3C, B3_SINGLE, B3_SEVERAL], ids=["w3c", "b3", "x-b3"])
def test_the_answer_names_the_servers_span_in_the_format_that_was_asked_in(
    receiver: Receiver, headers: dict[str, str]
) -> None:
    traced = Traced(receiver)
    answered = read(dict(traced.ask(headers).headers))
    traced.spans.close()
    assert answered.answer_headers.keys() == headers.keys()
    assert (answered.trace_id, answered.parent_id) == (TRACE, receiver.named(NAME).span_id.hex())
    assert answered.sampled


def test_a_request_without_a_trace_begins_one_and_is_told(receiver: Receiver) -> None:
    traced = Traced(receiver)
    answered = read(dict(traced.ask({"x-request-id": "r-1"}).headers))
    traced.spans.close()
    server = receiver.named(NAME)
    assert (answered.trace_id, answered.parent_id) == (server.trace_id.hex(), server.span_id.hex())
    assert (answered.request_id, server.parent_span_id) == ("r-1", b"")


def test_of_two_traces_the_span_belongs_to_w3cs_and_the_state_is_kept(receiver: Receiver) -> None:
    traced = Traced(receiver)
    sent = {"traceparent": f"00-{OTHER_TRACE}-{SPAN}-01", "tracestate": "a=1,b=2"} | B3_SEVERAL
    answer = traced.ask(sent)
    traced.spans.close()
    server = receiver.named(NAME)
    assert (server.trace_id.hex(), server.trace_state) == (OTHER_TRACE, "a=1,b=2")
    assert (answer.headers["x-b3-traceid"], answer.headers["tracestate"]) == (OTHER_TRACE, "a=1,b=2")


@pytest.mark.parametrize(
    "headers", [{"traceparent": f"00-{TRACE}-{SPAN}-00"}, {"b3": "0"}, {"x-b3-sampled": "0"}], ids=["w3c", "b3", "x-b3"]
)
def test_a_trace_that_the_caller_does_not_record_is_not_recorded_here(
    receiver: Receiver, headers: dict[str, str]
) -> None:
    traced = Traced(receiver)
    answer = traced.ask(headers)
    traced.spans.close()
    assert receiver.spans == []
    assert headers.items() <= answer.headers.items()


def test_a_deadline_and_a_failure_are_errors_and_a_refusal_says_why(receiver: Receiver) -> None:
    for fault, parameters in (("error:1", {}), ("", {"n": 2})):
        traced = Traced(receiver, fault)
        traced.ask(W3C, **parameters)
        traced.spans.close()
    failed, refused = receiver.spans
    assert (failed.status.code, failed.status.message) == (failed.status.STATUS_CODE_ERROR, "injected_fault")
    assert refused.status.code == refused.status.STATUS_CODE_UNSET
    assert [plain(s.attributes)["error.type"] for s in receiver.spans] == ["injected_fault", "invalid_value"]


def test_a_request_that_waited_until_its_deadline_was_in_the_queue_only(receiver: Receiver) -> None:
    traced = Traced(receiver)
    arrival = Arrival(5.0, "chat", trace=traced.spans.begin(TraceContext()))
    traced.spans(Outcome("id", arrival, Ending.DEADLINE, 9.0, code="deadline_exceeded"))
    traced.spans.close()
    queue, server = receiver.spans
    assert (queue.name, server.name) == ("queue", "chat model")
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == 4_000_000_000
    assert server.status.message == "deadline_exceeded"


def test_an_outcome_that_did_not_come_by_http_gets_a_span_too(receiver: Receiver) -> None:
    traced = Traced(receiver)
    traced.spans(Outcome("id", Arrival(5.0, "page"), Ending.STOP, 6.0, 5.0, 5.5))
    traced.spans.close()
    server = receiver.named("chat model")
    assert server.end_time_unix_nano - server.start_time_unix_nano == 1_000_000_000
    assert abs(server.end_time_unix_nano - time.time_ns()) < 60_000_000_000


def test_probes_and_readings_of_metrics_make_no_spans(receiver: Receiver) -> None:
    traced = Traced(receiver)

    async def probe() -> list[httpx.Response]:
        async with client(traced.app) as asking:
            return [await asking.get(path, headers=W3C) for path in ("/livez", "/metrics")]

    assert {answer.headers["traceparent"] for answer in asyncio.run(probe())} == {W3C["traceparent"]}
    traced.spans.close()
    assert receiver.spans == []


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_a_collector_that_cannot_be_reached_costs_requests_nothing_and_the_log_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    traced = Traced(Receiver(closed_port()))
    for _ in range(5):
        started = time.monotonic()
        assert traced.ask(W3C).status_code == 200
        assert time.monotonic() - started < 2
    wait_for(lambda: traced.warnings, 30)
    traced.ask(W3C)
    traced.spans.close()
    (warning,) = traced.warnings
    assert warning.startswith("spans are being lost, requests are not; said once an hour: ")
    assert "refused" in warning


@pytest.mark.slow
def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        traced = Traced(Receiver(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        traced.ask(W3C)
        started = time.monotonic()
        traced.spans.close()
        assert time.monotonic() - started < CLOSE_SECONDS + 1


def test_a_clients_odd_headers_do_not_get_into_the_log(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    traced = Traced(receiver)
    traced.ask(W3C | {"tracestate": "said by a client"})
    traced.spans.close()
    assert traced.warnings == []
    assert "client" not in "".join(capfd.readouterr())


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT='collector:4317': not a URL like"):
        Spans(Settings(otel_exporter_otlp_endpoint="collector:4317"), print)
