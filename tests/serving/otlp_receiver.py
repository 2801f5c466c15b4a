"""A receiver of spans by OTLP over HTTP, as a collector is one."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def plain(attributes: Any) -> dict[str, object]:
    """OTLP's key-value list as a dict; lists become tuples."""

    def value_of(value: Any) -> object:
        kind = value.WhichOneof("value")
        return tuple(value_of(v) for v in value.array_value.values) if kind == "array_value" else getattr(value, kind)

    return {attribute.key: value_of(attribute.value) for attribute in attributes}


@dataclass
class Receiver:
    """What has come so far."""

    endpoint: str = ""
    paths: set[str] = field(default_factory=set)
    resources: list[dict[str, object]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(plain(of_resource.resource.attributes))
            self.spans += [span for of_scope in of_resource.scope_spans for span in of_scope.spans]

    def named(self, name: str) -> Span:
        """The one span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not to the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
