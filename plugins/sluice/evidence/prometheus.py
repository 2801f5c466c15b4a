"""Users' requests by version, from a Prometheus that scrapes the gateway and the model servers.

Asks for raw samples (a range selector in an instant query), never for rates: each sample comes with the time at which
it was scraped. So a series that ended is told from one that stands still by the age of its last sample, compared with
the newest of all; resets are absorbed scrape by scrape, those between two looks too; and no clock but Prometheus' own
is involved. What is counted, and for whom, is in `sluice.evidence.series`.
A look is two selectors at once, since PromQL cannot say in one that the mesh names the version `destination_version`
and the servers name it `version`.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.samples import Sample

from sluice.errors import BadInput, Unreachable
from sluice.evidence.client import Closing
from sluice.evidence.counters import MonotoneCounters
from sluice.evidence.past import increases
from sluice.evidence.series import MESH, SERVERS, Reading, counters_of, distributions_of, totals_of
from sluice.ports import Distribution, Totals

QUERY_SECONDS = 10.0
SCRAPE_INTERVAL = timedelta(seconds=30)
LOOK_BACK_INTERVALS = 5.0
"""How far back a look reads: what a pod counted before it ended is still seen, if the last look was not long ago."""
PRESENT_INTERVALS = 2.5
"""A series whose last sample is older has ended: one scrape may fail, two may not."""


class PrometheusTelemetry(Closing):
    """One Prometheus, or what speaks its API. Close it, or use it as an async context manager: it keeps connections."""

    def __init__(
        self,
        url: str,
        *,
        interval: timedelta = SCRAPE_INTERVAL,
        token_file: Path | None = None,
        timeout_seconds: float = QUERY_SECONDS,
    ) -> None:
        """`url`: what `/api/v1/query` is appended to; `interval`: the longest scrape interval of the series in
        question; `token_file`: a bearer token, read anew for every query."""
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._interval = interval
        self._token_file = token_file
        self._counters = MonotoneCounters()
        self._one_after_the_other = asyncio.Lock()
        self._client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(), timeout=timeout_seconds)

    async def totals(self, versions: Sequence[str], limits_seconds: Mapping[str, float]) -> Mapping[str, Totals]:
        """Counters by version, which never fall while this object lives (a pod's restart does not take counts back).

        `limits_seconds`: metric (ttft, tpot, e2e) → the time beyond which a request is slow; in_flight → beyond which
        one under way is overdue. Raises Unreachable, and BadInput for a limit that is no bucket edge.
        """
        reading = await self._read(versions)
        return await asyncio.to_thread(totals_of, reading, versions, limits_seconds)

    async def distributions(self, versions: Sequence[str]) -> Mapping[str, Mapping[str, Distribution]]:
        """version → metric → cumulative counts by bucket edge. Raises Unreachable."""
        reading = await self._read(versions)
        return await asyncio.to_thread(distributions_of, reading, versions)

    async def past(
        self, version: str, limits_seconds: Mapping[str, float], window: timedelta, windows: int
    ) -> Sequence[Mapping[str, Totals]]:
        """Increases by pod in each of the last `windows` whole windows, oldest first: see `sluice.evidence.past`.

        Windows begin at multiples of their length, as Prometheus aligns them. Raises Unreachable, and BadInput for a
        limit that is no bucket edge.
        """
        samples = await self._samples([version], f"[{_duration((windows + 1) * window)}:{_duration(window)}]")
        return await asyncio.to_thread(increases, samples, version, limits_seconds, window, windows)

    async def _read(self, versions: Sequence[str]) -> Reading:
        async with self._one_after_the_other:
            samples = await self._samples(versions, f"[{_duration(LOOK_BACK_INTERVALS * self._interval)}]")
            return await asyncio.to_thread(self._reading, samples)

    def _reading(self, samples: Sequence[Sequence[Sample]]) -> Reading:
        scrapes: dict[float, list[Sample]] = defaultdict(list)
        for series in samples:
            for sample in series:
                scrapes[_time(sample)].append(sample)
        counted = self._counters.absorb(*({self._url: counters_of(scrapes[at])} for at in sorted(scrapes)))
        oldest = max(scrapes, default=0.0) - PRESENT_INTERVALS * self._interval.total_seconds()
        return Reading(counted, [series[-1] for series in samples if _time(series[-1]) >= oldest])

    async def _samples(self, versions: Sequence[str], span: str) -> list[Sequence[Sample]]:
        """The series of the versions with their samples within the span, oldest first."""
        wanted = json.dumps("|".join(map(re.escape, versions)))
        found = await asyncio.gather(
            self._query(f'{{__name__=~"{MESH}",traffic="user",destination_version=~{wanted}}}{span}'),
            self._query(f'{{__name__=~"{SERVERS}",traffic="user",version=~{wanted}}}{span}'),
        )
        return [series for matrix in found for series in matrix]

    async def _query(self, query: str) -> list[Sequence[Sample]]:
        headers = await asyncio.to_thread(self._headers)
        try:
            response = await self._client.get(self._url, params={"query": query}, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        # A long answer takes long enough to parse to make other coroutines late: a thread.
        return await asyncio.to_thread(self._matrix, response)

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except OSError as error:
            raise BadInput(f"Prometheus' token file cannot be read: {error}; correct the path or its mode") from error

    def _matrix(self, response: httpx.Response) -> list[Sequence[Sample]]:
        try:
            answer = json.loads(response.content)
            if answer["status"] != "success":
                raise self._unreachable(f"{answer.get('errorType', 'error')}: {answer.get('error', '')}")
            if answer.get("warnings"):
                raise self._unreachable(f"it answers in part only: {'; '.join(answer['warnings'])}")
            if response.is_success:
                return [_series(series) for series in answer["data"]["result"] if series["values"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found = f"HTTP {response.status_code}, but no answer of its API ({response.text[:100]!r}: {error!r})"
            raise self._unreachable(found) from error
        raise self._unreachable(f"HTTP {response.status_code}")

    def _unreachable(self, found: str) -> Unreachable:
        return Unreachable(
            f"Prometheus does not answer at {self._url}: {found}; "
            f"try `curl -G {self._url} --data-urlencode query=up` and correct the address or its access"
        )


def _series(series: Any) -> Sequence[Sample]:
    """Raises ValueError, KeyError or TypeError for what is no series of finite numbers."""
    labels = dict(series["metric"])
    name = labels.pop("__name__")
    return [Sample(name, labels, _number(name, value), float(at)) for at, value in series["values"]]


def _number(name: str, value: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value}")
    return number


def _time(sample: Sample) -> float:
    return float(sample.timestamp or 0.0)


def _duration(length: timedelta) -> str:
    return f"{length // timedelta(milliseconds=1)}ms"
