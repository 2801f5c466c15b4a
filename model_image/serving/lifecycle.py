"""The process: check, listen, load, warm up, serve, drain, exit.

Exit codes: 0 after SIGTERM or SIGINT; 2 with one line on stderr if configuration, model directory or port are wrong; 1
if the engine does not come up.
"""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp

from serving.access import Access, key_of
from serving.api import create_app
from serving.config import ConfigError, Settings
from serving.engine import Engine, EngineDead, Report
from serving.fault import Drill, Fault, FaultError
from serving.metrics import Metrics
from serving.model_dir import FileDigests, ModelDirError, check_model_dir
from serving.outcome import Listener
from serving.page.front import Page, prepare
from serving.request_log import RequestLog
from serving.service import Phase, Service
from serving.tracing import TraceHeaders

if TYPE_CHECKING:
    from serving.spans import Spans

Loaded = tuple[Engine, FileDigests]

ENGINE_FAILED, WRONG_INPUT = 1, 2
KEEP_ALIVE_SECONDS = 3900
"""Longer than a proxy keeps idle connections (Envoy: an hour): it must not send on one that is being closed here."""
_CLOSE_SECONDS = 5
_LINGER_SECONDS = 0.5
_REPORT_SECONDS = 5


class Server(uvicorn.Server):
    """uvicorn without its own signal handling: that would close the listener at once, before load balancers know."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> int:
    """Run the server until it is told to stop; returns the exit code."""
    started = time.monotonic()
    try:
        settings = Settings.from_environment(os.environ)
        drill = _drill(settings)
        check_model_dir(settings.model_dir)
        listener = _listen(settings)
        # The numerical libraries read it when they are imported, which is later.
        os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
        return asyncio.run(_run(settings, drill, listener, started))
    except (ConfigError, ModelDirError) as error:
        return _give_up(error, WRONG_INPUT)
    except EngineDead as error:
        return _give_up(error, ENGINE_FAILED)


def _drill(settings: Settings) -> Drill:
    try:
        fault = Fault.parse(settings.fault)
    except FaultError as error:
        raise ConfigError(str(error)) from error
    if settings.fault and not settings.allow_faults:
        raise ConfigError(f"SERVING_FAULT={settings.fault!r}: a drill needs SERVING_ALLOW_FAULTS=1; unset it to serve")
    return Drill(fault, random.Random(0))


def _listen(settings: Settings) -> socket.socket:
    # The protocol must be named: only then asyncio turns Nagle's algorithm off, which costs 40 ms per response.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # So that a second process on the same port fails now and not after it has loaded its model.
        listener.listen()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); set HOST or PORT"
        ) from error
    return listener


def _give_up(error: Exception, exit_code: int) -> int:
    print(f"serving: {error}", file=sys.stderr, flush=True)
    return exit_code


def _say(line: str) -> None:
    print(f"serving: {line}", flush=True)


class StartReport:
    """Tells how far the start has come: at /readyz always, in the log each phase, and within one only now and then."""

    def __init__(self, service: Service, started: float) -> None:
        self._service = service
        self._started = started
        self._phase = ""
        self._said = started

    def __call__(self, phase: str, detail: str = "") -> None:
        line = f"{phase}: {detail}" if detail else phase
        self._service.loading = line
        now = time.monotonic()
        if phase != self._phase or now - self._said >= _REPORT_SECONDS:
            self._phase, self._said = phase, now
            _say(f"[{now - self._started:.1f} s] {line}")


async def _run(settings: Settings, drill: Drill, listener: socket.socket, started: float) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    spans = _spans(settings)
    metrics = Metrics(settings.revision, settings.version, settings.time_buckets_seconds)
    listeners: list[Listener] = [RequestLog(settings, sys.stdout)]
    if spans is not None:
        listeners.append(spans)
    service = Service(settings, metrics, drill, listeners=listeners)
    app, page = _app(service, key_of(settings), spans)
    server = Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    _say(f"listening on {settings.host}:{listener.getsockname()[1]}")
    engine, files = await _loaded(settings, stop, StartReport(service, started))
    if page is not None:
        await page.open(engine)
    # What is loaded now stays; looking through all of it again costs the collector a quarter of a second each time.
    gc.freeze()
    service.open(engine, files)
    _say(f"ready after {time.monotonic() - started:.1f} s")
    await stop.wait()
    await _drain(service)
    if page is not None:
        await page.close()
    server.should_exit = True
    await serving
    engine.stop()
    if spans is not None:
        spans.close()
    return 0


def _spans(settings: Settings) -> "Spans | None":
    if not settings.otel_exporter_otlp_endpoint:
        return None
    from serving.spans import Spans  # OpenTelemetry is imported only where it is used

    return Spans(settings, _say)


def _app(service: Service, key: str, spans: "Spans | None") -> tuple[ASGIApp, Page | None]:
    """All that answers HTTP; the page in it, which has to be opened."""
    app = create_app(service)
    page = Page(app, service, key) if service.settings.ui else None
    app = page or app
    return TraceHeaders(Access(app, service, key) if key else app, spans), page


async def _loaded(settings: Settings, stop: asyncio.Event, report: Report) -> Loaded:
    loading = _in_thread(lambda: _load(settings, report))
    stopping = asyncio.create_task(stop.wait())
    either: set[asyncio.Future[Any]] = {loading, stopping}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        # Nobody was served yet, and the import of torch cannot be interrupted in an orderly way.
        os._exit(0)
    stopping.cancel()
    return loading.result()


def _load(settings: Settings, report: Report) -> Loaded:
    report("importing torch and transformers")
    from serving.loading import load_engine

    engine = load_engine(settings, report)
    if settings.ui:
        report("importing the page's libraries")
        prepare()
    report("digesting the files")
    files = FileDigests.of(settings.model_dir)
    return engine, files


def _in_thread(work: Callable[[], Loaded]) -> "asyncio.Future[Loaded]":
    """Like asyncio.to_thread, but the process may end before the work does."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Loaded] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future


async def _drain(service: Service) -> None:
    """Not ready but accepting for the delay, then refusing while running requests finish, until the deadline."""
    settings = service.settings
    service.phase = Phase.DRAINING
    _say("draining")
    await asyncio.sleep(settings.drain_delay_seconds)
    service.phase = Phase.REFUSING
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(service.idle.wait(), settings.drain_deadline_seconds)
        # Whoever got the last answers may have sent once more: that is refused, too, not cut off.
        await asyncio.sleep(_LINGER_SECONDS)
    service.abandon("the server is shutting down")
    _say("drained")
