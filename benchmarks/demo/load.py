"""Users: completion requests through the gateway at a steady rate, every answer checked, every failure told.

The loop is open: requests are sent when a Poisson process with a fixed seed says so, whether or not earlier ones were
answered, and their time counts from that scheduled moment. How late the generator itself sent them is in the results
(`sent` − `scheduled`), so that its own weakness is not taken for the server's.

`python -m benchmarks.demo.load --gateway URL --host HOST --rate 30 --out DIR` runs until SIGTERM or --max-seconds, and
writes one JSON line per request to DIR/requests.jsonl, each second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

Kind = Literal["short", "long"]
Question = tuple[str, str, int]
"""Prompt, its answer, and the tokens to ask for."""

RESULTS = "requests.jsonl"
WARM_UP_HOST = "warm-up.invalid"
FINISH_REASONS = frozenset({"stop", "length"})
REQUEST_SECONDS = 20.0
FLUSH_SECONDS = 1.0


class LoadError(Exception):
    """The load generator cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Mix:
    """What users send."""

    rate: float = 30.0
    """Requests per second, on average."""
    long_share: float = 0.2
    """Of requests with worked examples before the question."""
    long_characters: int = 320
    """Least length of those examples."""
    stream_share: float = 0.3
    seed: int = 1


@dataclass(frozen=True)
class Planned:
    """One request before it is sent."""

    after_seconds: float
    """Since the start of the load."""
    kind: Kind
    streamed: bool
    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Result:
    """What became of one request. Times in epoch seconds."""

    request_id: str
    scheduled: float
    sent: float
    finished: float
    kind: Kind
    streamed: bool
    status: int
    """HTTP status; 0 if there was no response."""
    ok: bool
    why: str
    """"" for a good answer."""


def plan(mix: Mix, questions: Sequence[Question]) -> Iterator[Planned]:
    """The endless sequence of requests; the same for the same mix and questions."""
    rng = random.Random(mix.seed)
    at = 0.0
    while True:
        at += rng.expovariate(mix.rate)
        prompt, _, max_tokens = rng.choice(questions)
        kind: Kind = "long" if rng.random() < mix.long_share else "short"
        if kind == "long":
            prompt = _examples(rng, questions, mix.long_characters) + prompt
        yield Planned(at, kind, rng.random() < mix.stream_share, prompt, max_tokens)


def _examples(rng: random.Random, questions: Sequence[Question], characters: int) -> str:
    text = ""
    while len(text) < characters:
        prompt, answer, _ = rng.choice(questions)
        text += f"{prompt}{answer}\n"
    return text


def questions_of(path: Path) -> list[Question]:
    """The questions of a prompt set. Raises LoadError if there is none."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = [(row["prompt"], row["answer"], row["max_tokens"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{path} is no prompt set ({error!r}): name one with --prompts") from error
    if not found:
        raise LoadError(f"{path} has no prompts: name another prompt set with --prompts")
    return found


def problem_of_answer(body: bytes) -> str:
    """What is wrong with a complete answer; "" if nothing is."""
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        if not choice["text"]:
            return "empty text"
        return _problem_of_end(choice["finish_reason"], answer["usage"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"no completion: {error!r} in {body[:120]!r}"


def problem_of_stream(body: bytes) -> str:
    """What is wrong with the events of a stream that has ended; "" if nothing is."""
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1].strip() != b"[DONE]":
        return f"the stream ended without [DONE] after {len(events)} events"
    try:
        chunks = [json.loads(event) for event in events[:-1]]
        if not any(choice["text"] for chunk in chunks for choice in chunk["choices"]):
            return "a stream without text"
        return _problem_of_end(chunks[-1]["choices"][0]["finish_reason"], chunks[-1].get("usage"))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"no event of a completion: {error!r}"


def _problem_of_end(reason: Any, usage: Any) -> str:
    if reason not in FINISH_REASONS:
        return f"finish_reason {reason!r}"
    if usage is None:
        return "no usage"
    prompt, completion, total = (usage[f"{part}_tokens"] for part in ("prompt", "completion", "total"))
    if prompt < 1 or completion < 1 or prompt + completion != total:
        return f"usage does not add up: {prompt} + {completion} = {total}"
    return ""


class Load:
    """Sends a plan to one host behind one gateway, and keeps the results."""

    def __init__(self, gateway: str, host: str, out: Path, connections: int = 32, in_flight: int = 256) -> None:
        self._url = gateway.rstrip("/")
        self._host = host
        self._file = out / RESULTS
        self._connections = connections
        self._slots = asyncio.Semaphore(in_flight)
        self._unwritten: list[Result] = []
        self.sent = 0
        self.failed = 0

    async def run(self, planned: Iterator[Planned], max_seconds: float, stop: asyncio.Event) -> None:
        """Send until `stop` or for `max_seconds`, then wait for answers. Raises LoadError if there is no gateway."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("")
        # Kept connections are the gateway's to close; more of them than it serves at once would only be opened anew.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            await self._open_connections(session)
            writing = asyncio.create_task(self._write_each_second())
            try:
                async with asyncio.TaskGroup() as requests:
                    await self._send_all(session, planned, max_seconds, stop, requests)
            finally:
                writing.cancel()
                self._write()

    async def _send_all(
        self,
        session: aiohttp.ClientSession,
        planned: Iterator[Planned],
        max_seconds: float,
        stop: asyncio.Event,
        requests: asyncio.TaskGroup,
    ) -> None:
        began, began_epoch = time.monotonic(), time.time()
        for request in planned:
            if request.after_seconds > max_seconds or await _stopped(stop, began + request.after_seconds):
                return
            await self._slots.acquire()
            requests.create_task(self._send(session, request, began_epoch + request.after_seconds))

    async def _send(self, session: aiohttp.ClientSession, request: Planned, scheduled: float) -> None:
        request_id = str(uuid.uuid4())
        sent = time.time()
        status = 0
        try:
            headers = {"host": self._host, "x-request-id": request_id}
            body = {"prompt": request.prompt, "max_tokens": request.max_tokens, "stream": request.streamed}
            async with session.post(f"{self._url}/v1/completions", json=body, headers=headers) as response:
                status = response.status
                why = _problem(status, request.streamed, await response.read())
        except TimeoutError:
            why = f"no whole answer within {REQUEST_SECONDS:g} s"
        except (aiohttp.ClientError, OSError) as error:
            why = f"broken: {error!r}"
        finally:
            self._slots.release()
        self.sent += 1
        self.failed += bool(why)
        times = (scheduled, sent, time.time())
        self._unwritten.append(Result(request_id, *times, request.kind, request.streamed, status, not why, why))

    async def _open_connections(self, session: aiohttp.ClientSession) -> None:
        """Requests for a host that the gateway does not know, which it answers by itself: no server sees them."""

        async def one() -> None:
            async with session.get(self._url, headers={"host": WARM_UP_HOST}) as response:
                await response.read()

        try:
            await asyncio.gather(*(one() for _ in range(self._connections)))
        except (aiohttp.ClientError, OSError) as error:
            raise LoadError(
                f"No gateway answers at {self._url} ({error}): start it, or name it with --gateway"
            ) from error

    async def _write_each_second(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self._write()

    def _write(self) -> None:
        lines = "".join(json.dumps(asdict(result)) + "\n" for result in self._unwritten)
        self._unwritten.clear()
        with self._file.open("a", encoding="utf-8") as file:
            file.write(lines)


def _problem(status: int, streamed: bool, body: bytes) -> str:
    if status != 200:
        return f"status {status}: {body[:200].decode(errors='replace')}"
    return problem_of_stream(body) if streamed else problem_of_answer(body)


async def _stopped(stop: asyncio.Event, until: float) -> bool:
    """Sleep until a moment of the monotonic clock, or until `stop`. Returns whether it was that."""
    remaining = until - time.monotonic()
    if remaining <= 0:
        await asyncio.sleep(0)
        return stop.is_set()
    try:
        async with asyncio.timeout(remaining):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def main() -> int:
    options = _parser().parse_args()
    mix = Mix(options.rate, options.long_share, options.long_characters, options.stream_share, options.seed)
    try:
        asyncio.run(_main(options, plan(mix, questions_of(options.prompts))))
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _main(options: argparse.Namespace, planned: Iterator[Planned]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    load = Load(options.gateway, options.host, options.out)
    began, cpu = time.monotonic(), time.process_time()
    await load.run(planned, options.max_seconds, stop)
    seconds = time.monotonic() - began
    share = (time.process_time() - cpu) / seconds
    rate = load.sent / seconds
    print(f"load: {load.sent} requests in {seconds:.0f} s ({rate:.1f}/s), {load.failed} failed, {share:.1%} of a core")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gateway", required=True, help="URL of the gateway")
    parser.add_argument("--host", required=True, help="the model's host, as the gateway's routes name it")
    parser.add_argument("--out", type=Path, required=True, help=f"directory of {RESULTS}")
    parser.add_argument("--prompts", type=Path, default=Path("prompts/arithmetic.jsonl"), help="default: %(default)s")
    parser.add_argument("--max-seconds", type=float, default=900.0, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=Mix.rate, help="requests per second (default: %(default)s)")
    parser.add_argument("--long-share", type=float, default=Mix.long_share, help="default: %(default)s")
    parser.add_argument("--long-characters", type=int, default=Mix.long_characters, help="default: %(default)s")
    parser.add_argument("--stream-share", type=float, default=Mix.stream_share, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=Mix.seed, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
