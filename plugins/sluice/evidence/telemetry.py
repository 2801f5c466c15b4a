"""Users' requests by version, scraped from Prometheus expositions: the gateway's and the model servers'.

Counts are made where the truth is. *Started* is Envoy's own upstream counter, since Istio's counts a request only when
it ends. *Answered* and *failed* are what the gateway sent to users (reporter source). *Attempts* are what the version's
pods saw (reporter destination), retries included, plus what failed on the way to them: the gateway's retries would hide
a failing canary. Times come from the servers' histograms, whose bucket edges include the policy's limits.
Only series with traffic="user" count; probes are kept apart by the gateway.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sluice.errors import BadInput, Unreachable
from sluice.evidence.counters import MonotoneCounters
from sluice.ports import Timing, Totals

SCRAPE_SECONDS = 5.0

REQUESTS = "istio_requests_total"
STARTED = "envoy_cluster_upstream_rq_total"
HISTOGRAMS = {
    "ttft": "serving_time_to_first_token_seconds",
    "tpot": "serving_time_per_output_token_seconds",
    "e2e": "serving_request_duration_seconds",
}
_SERIES = rf"(?:{REQUESTS}|{STARTED}|(?:{'|'.join(HISTOGRAMS.values())})_(?:bucket|count))"
_USERS_LINE = re.compile(rf'{_SERIES}\{{(?:.*,)?\s*traffic="user"')

CLIENT_GONE = frozenset({"DC", "DR"})
"""Envoy's response flags for a user who left before the answer's end: no answer, and nobody's failure."""
BROKEN = frozenset({"UH", "UF", "UO", "NC", "UR", "UC", "UT", "LR", "URX", "SI", "UPE", "DPE", "UMSDR", "OM", "DF"})
"""Response flags of an answer that broke or never came, whatever its code says (a broken stream keeps its 200)."""
OVERLOADED = frozenset({408, 429})
"""Codes below 500 that are the server's failure all the same: too slow, or no room. Other 4xx are the client's."""
NEVER_REACHED = frozenset({"UF", "UH", "NC", "UO"})
"""Response flags of a failure before any pod saw the request: no destination reports it."""


class ScrapedTelemetry:
    """Scrapes all sources at once. Close it, or use it as an async context manager: it keeps connections open."""

    def __init__(self, urls: Sequence[str], timeout_seconds: float = SCRAPE_SECONDS) -> None:
        self._urls = tuple(urls)
        self._counters = MonotoneCounters()
        self._one_after_the_other = asyncio.Lock()
        """A scrape that is overtaken by a later one would look like a reset."""
        self._client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(), timeout=timeout_seconds)

    async def __aenter__(self) -> ScrapedTelemetry:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def totals(self, versions: Sequence[str], limits_seconds: Mapping[str, float]) -> Mapping[str, Totals]:
        """Counters by version, which never fall while this object lives (a pod's restart does not take counts back).

        `limits_seconds`: metric (ttft, tpot, e2e) → the time beyond which a request is slow. Raises Unreachable, and
        BadInput for a limit that is no bucket edge.
        """
        async with self._one_after_the_other:
            texts = await asyncio.gather(*map(self._scrape, self._urls))
            # Parsing takes long enough to make other coroutines late: a thread.
            return await asyncio.to_thread(self._totals, texts, versions, limits_seconds)

    def _totals(
        self, texts: Sequence[str], versions: Sequence[str], limits_seconds: Mapping[str, float]
    ) -> Mapping[str, Totals]:
        samples = {url: _parse(url, text) for url, text in zip(self._urls, texts, strict=True)}
        return totals_of(self._counters.absorb(samples), versions, limits_seconds)

    async def _scrape(self, url: str) -> str:
        try:
            response = await self._client.get(url, headers={"Accept": "text/plain;version=0.0.4"})
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(
                f"the metrics at {url} cannot be read: {error or type(error).__name__}; try `curl {url}`"
            ) from error
        return response.text


def _parse(url: str, text: str) -> list[Sample]:
    """The series that count. Lines are chosen before they are parsed, which is what takes the time."""
    if text.strip() and "# TYPE " not in text:
        raise _no_metrics(url, text[:100])
    lines = "\n".join(line for line in text.splitlines() if _USERS_LINE.match(line))
    try:
        return [sample for family in text_string_to_metric_families(lines + "\n") for sample in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise _no_metrics(url, error) from error


def _no_metrics(url: str, found: object) -> Unreachable:
    return Unreachable(
        f"{url} answers, but not with Prometheus metrics ({found}); try `curl {url}` and correct the address"
    )


def totals_of(
    samples: Iterable[Sample], versions: Sequence[str], limits_seconds: Mapping[str, float]
) -> Mapping[str, Totals]:
    """Totals of those versions that any sample mentions. Raises BadInput for a limit that is no bucket edge."""
    by_version: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_version[sample.labels.get("destination_version") or sample.labels.get("version", "")].append(sample)
    return {version: _version(by_version[version], limits_seconds) for version in versions if version in by_version}


def _version(samples: Sequence[Sample], limits_seconds: Mapping[str, float]) -> Totals:
    outcomes = [_Outcome.of(sample) for sample in samples if sample.name == REQUESTS]
    source = [outcome for outcome in outcomes if outcome.reporter == "source" and not outcome.client_gone]
    attempts = [outcome for outcome in outcomes if outcome.reporter == "destination"]
    attempts += [outcome for outcome in source if outcome.failed and outcome.flags & NEVER_REACHED]
    return Totals(
        started=sum(int(sample.value) for sample in samples if sample.name == STARTED),
        answered=sum(outcome.count for outcome in source),
        failed=sum(outcome.count for outcome in source if outcome.failed),
        attempts=sum(outcome.count for outcome in attempts),
        attempts_failed=sum(outcome.count for outcome in attempts if outcome.failed),
        timings={metric: _timings(metric, samples, limit) for metric, limit in limits_seconds.items()},
    )


@dataclass(frozen=True)
class _Outcome:
    """One series of `istio_requests_total`: how many requests ended like this."""

    reporter: str
    code: int
    flags: frozenset[str]
    count: int

    @classmethod
    def of(cls, sample: Sample) -> _Outcome:
        code = sample.labels.get("response_code", "0")
        flags = frozenset(sample.labels.get("response_flags", "-").split(","))
        return cls(sample.labels.get("reporter", ""), int(code) if code.isdigit() else 0, flags, int(sample.value))

    @property
    def client_gone(self) -> bool:
        return bool(self.flags & CLIENT_GONE) and self.code < 500

    @property
    def failed(self) -> bool:
        if self.code >= 500:
            return True
        if self.code in OVERLOADED:
            return True
        refused = 400 <= self.code < 500
        return not refused and not self.client_gone and (self.code == 0 or bool(self.flags & BROKEN))


def _timings(metric: str, samples: Iterable[Sample], limit: float) -> Mapping[str, Timing]:
    """Stratum → requests, and those over the limit: the count less the bucket that ends there."""
    name = HISTOGRAMS[metric]
    requests: dict[str, int] = defaultdict(int)
    within: dict[str, int] = defaultdict(int)
    edges: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        stratum = _stratum(metric, sample)
        if sample.name == f"{name}_count":
            requests[stratum] += int(sample.value)
        elif sample.name == f"{name}_bucket":
            edge = float(sample.labels["le"])
            edges[stratum].append(edge)
            within[stratum] += int(sample.value) if math.isclose(edge, limit) else 0
    for stratum, found in edges.items():
        if not any(math.isclose(edge, limit) for edge in found):
            raise BadInput(_no_edge(metric, limit, found, stratum))
    return {stratum: Timing(count, count - within[stratum]) for stratum, count in requests.items()}


def _stratum(metric: str, sample: Sample) -> str:
    prompt = sample.labels.get("prompt_class", "")
    return f"{prompt}/{sample.labels.get('output_class', '')}" if metric == "tpot" else prompt


def _no_edge(metric: str, limit: float, edges: Iterable[float], stratum: str) -> str:
    finite = ", ".join(f"{edge:g}" for edge in sorted(set(edges)) if math.isfinite(edge))
    return (
        f"gates.latency.{metric}: {limit:g} s is no bucket edge of {HISTOGRAMS[metric]} ({stratum}), so that slow "
        f"requests cannot be counted; choose one of the servers' edges in seconds: {finite}"
    )
