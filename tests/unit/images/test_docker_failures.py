"""Which failures may be over soon, and which a person must mend; what an engine that breaks off leaves."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.errors import BadInput, Refused, Unreachable
from sluice.images.docker_engine import DockerImages, EngineSettings
from sluice.images.docker_errors import failure
from tests.unit.images.build_inputs import image_spec

UNREACHABLE = (
    'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
    'Get "https://registry.example.com/v2/": net/http: TLS handshake timeout',
    "dial tcp: lookup registry.example.com on 10.0.0.1:53: no such host",
    "received unexpected HTTP status: 503 Service Unavailable",
    'Put "https://registry.example.com/v2/x": EOF',
    "toomanyrequests: You have reached your pull rate limit",
)
REFUSED = (
    "unauthorized: authentication required",
    "denied: requested access to the resource is denied",
    "manifest unknown: manifest unknown",
    "The command '/bin/sh -c pip --timeout 5 install x' returned a non-zero code: 1\n  connection refused",
)


@pytest.mark.parametrize("message", UNREACHABLE)
def test_a_registry_that_does_not_answer_is_tried_again(message: str) -> None:
    error = failure("pushing x:1", message, "ask its owner")
    assert isinstance(error, Unreachable)
    assert str(error) == f"pushing x:1: {message}"


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_person_must_mend_is_refused_with_the_remedy(message: str) -> None:
    error = failure("pushing x:1", message, "ask its owner")
    assert isinstance(error, Refused)
    assert str(error) == f"pushing x:1: {message}; ask its owner"


async def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    images = DockerImages(EngineSettings("tcp://127.0.0.1:1"))
    with pytest.raises(Unreachable, match=r"x:1: the Docker Engine at tcp://127\.0\.0\.1:1 does not answer"):
        await images.find("registry.example.com/x", "1")


class BreakingEngine(socketserver.StreamRequestHandler):
    """Knows no image, and dies in the middle of a build."""

    def handle(self) -> None:
        while request := self.rfile.readline():
            length, chunked = 0, False
            while (header := self.rfile.readline().strip().lower()) != b"":
                chunked |= header == b"transfer-encoding: chunked"
                length = int(header.split(b":")[1]) if header.startswith(b"content-length:") else length
            if chunked:
                self._chunks()
            self.rfile.read(length)
            if not self._answer(request.split()[1]):
                return

    def _chunks(self) -> None:
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    def _answer(self, path: bytes) -> bool:
        if path.endswith(b"/version"):
            return self._json(200, b'{"ApiVersion": "1.41"}')
        if b"/build?" in path:
            start = b'{"stream":"Step 1/2 : FROM scratch"}\r\n'
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n")
            self.wfile.write(b"%x\r\n%s\r\n" % (len(start), start))
            return False
        if path.endswith(b"/images/base:1/json"):
            return self._json(200, b"{}")
        return self._json(404, b'{"message": "manifest unknown"}')

    def _json(self, status: int, body: bytes) -> bool:
        self.wfile.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % status)
        self.wfile.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return True


@pytest.fixture
def breaking_engine() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), BreakingEngine) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_a_context_that_cannot_be_read_is_not_blamed_on_the_engine(breaking_engine: str, tmp_path: Path) -> None:
    spec = image_spec(tmp_path)
    (spec.context / "Dockerfile").unlink()
    with pytest.raises(BadInput, match=r"version a1b2c3 cannot be built from .*Dockerfile"):
        await DockerImages(EngineSettings(breaking_engine)).build(spec, lambda _: None)


async def test_a_context_without_a_base_image_is_refused(breaking_engine: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"image\.base: neither the policy nor .*/Dockerfile .* names a base image"):
        await DockerImages(EngineSettings(breaking_engine)).build(image_spec(tmp_path), lambda _: None)


async def test_an_engine_that_breaks_off_in_a_build_is_tried_again(breaking_engine: str, tmp_path: Path) -> None:
    spec = image_spec(tmp_path)
    (spec.context / "Dockerfile").write_text("ARG BASE_IMAGE=base:1\nFROM ${BASE_IMAGE}\n")
    said: list[str] = []
    with pytest.raises(Unreachable, match=rf"building .*:a1b2c3.*the Docker Engine at {breaking_engine}"):
        await DockerImages(EngineSettings(breaking_engine)).build(spec, said.append)
    assert said[-1] == "Step 1/2 : FROM scratch"
