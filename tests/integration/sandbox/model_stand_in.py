"""A model server's stand-in: what the tests' bundles run. Behaviour is chosen by environment variables and paths."""

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = os.environ.get("VERSION", "")
METRICS = '# TYPE answers_total counter\nanswers_total{pod="mine"} %d\n'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers = 0
    wbufsize = -1  # headers and body in one packet: two would wait for each other's acknowledgement

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/readyz":
            self._answer(503 if os.environ.get("NEVER_READY") else 200, b"")
        elif path == "/metrics":
            self._answer(200, (METRICS % Handler.answers).encode())
        elif path.startswith("/status/"):
            self._answer(int(path.rpartition("/")[2]), b"")
        elif path == "/stream":
            self._stream(20, 0.05)
        elif path == "/crash":
            os._exit(3)
        elif path == "/eat":
            self._answer(200, b"x" * 256_000_000)
        elif path == "/inside":
            self._answer(200, json.dumps(inside()).encode())
        else:
            Handler.answers += 1
            seen = {"version": VERSION, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
            seen["env"] = dict(os.environ)
            self._answer(200, json.dumps(seen).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _stream(self, chunks: int, pause_seconds: float) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(chunks):
            text = f"{VERSION} {number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.flush()
            time.sleep(pause_seconds)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        """Probes would fill the log."""


def inside() -> dict[str, object]:
    """What this process may do."""
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    kept = {name: status[name] for name in ("CapEff", "NoNewPrivs")}
    return {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), **kept, "writable": writable()}


def writable() -> list[str]:
    """Which of the directories named in LOOK can be written to."""
    found = []
    for directory in os.environ.get("LOOK", "").split():
        try:
            with open(f"{directory}/written", "w"):
                found.append(directory)
        except OSError:
            continue
    return found


def end(number: int, frame: object) -> None:
    print("asked to end", flush=True)
    if os.environ.get("STUBBORN"):
        return
    time.sleep(float(os.environ.get("END_SECONDS", "0")))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    print(f"version {VERSION} serves", flush=True)
    if code := os.environ.get("EXIT_CODE"):
        sys.exit(int(code))
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
