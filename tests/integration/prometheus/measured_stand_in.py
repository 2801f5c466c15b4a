"""A model server's stand-in that answers at once and counts its answers as the real one does; a bundle runs it."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from prometheus_client import Counter, Histogram, generate_latest

VERSION = os.environ.get("VERSION", "")
LABELS = ["version", "traffic", "prompt_class"]
ANSWERS = Counter("serving_answers", "answers", LABELS)
DURATION = Histogram("serving_request_duration_seconds", "durations", LABELS, buckets=(0.5, 20.0))
BOTH = Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two would wait for each other's acknowledgement

    def do_GET(self) -> None:
        body = json.dumps({"version": VERSION}).encode()
        with BOTH:
            if self.path == "/metrics":
                body = generate_latest()
            elif self.path == "/":
                traffic = "synthetic" if "x-sluice-probe" in self.headers else "user"
                ANSWERS.labels(VERSION, traffic, "short").inc()
                DURATION.labels(VERSION, traffic, "short").observe(1.0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        """Probes would fill the log."""


if __name__ == "__main__":
    ANSWERS.labels(VERSION, "user", "short")  # from the beginning on, with 0
    DURATION.labels(VERSION, "user", "short")
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
