"""Users' requests by version, scraped from Prometheus expositions: the gateway's and the model servers'.

What is counted, and for whom, is in `sluice.evidence.series`. A scrape knows what is now and keeps no past.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sluice.errors import Unreachable
from sluice.evidence.client import Closing
from sluice.evidence.counters import MonotoneCounters
from sluice.evidence.series import MESH, SERVERS, Reading, counters_of, distributions_of, totals_of
from sluice.ports import Distribution, Totals

SCRAPE_SECONDS = 5.0
_USERS_LINE = re.compile(rf'(?:{MESH}|{SERVERS})\{{(?:.*,)?\s*traffic="user"')


class ScrapedTelemetry(Closing):
    """Scrapes all sources at once. Close it, or use it as an async context manager: it keeps connections open."""

    def __init__(self, urls: Sequence[str], timeout_seconds: float = SCRAPE_SECONDS) -> None:
        self._urls = tuple(urls)
        self._counters = MonotoneCounters()
        self._one_after_the_other = asyncio.Lock()
        """A scrape that is overtaken by a later one would look like a reset."""
        self._client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(), timeout=timeout_seconds)

    async def totals(self, versions: Sequence[str], limits_seconds: Mapping[str, float]) -> Mapping[str, Totals]:
        """Counters by version, which never fall while this object lives (a pod's restart does not take counts back).

        `limits_seconds`: metric (ttft, tpot, e2e) → the time beyond which a request is slow; in_flight → beyond which
        one under way is overdue. Raises Unreachable, and BadInput for a limit that is no bucket edge.
        """
        reading = await self._read()
        return await asyncio.to_thread(totals_of, reading, versions, limits_seconds)

    async def distributions(self, versions: Sequence[str]) -> Mapping[str, Mapping[str, Distribution]]:
        """version → metric → cumulative counts by bucket edge. Raises Unreachable."""
        reading = await self._read()
        return await asyncio.to_thread(distributions_of, reading, versions)

    async def past(
        self, version: str, limits_seconds: Mapping[str, float], window: timedelta, windows: int
    ) -> Sequence[Mapping[str, Totals]]:
        """Always empty."""
        return ()

    async def _read(self) -> Reading:
        async with self._one_after_the_other:
            texts = await asyncio.gather(*map(self._scrape, self._urls))
            # Parsing takes long enough to make other coroutines late: a thread.
            return await asyncio.to_thread(self._reading, texts)

    def _reading(self, texts: Sequence[str]) -> Reading:
        samples = {url: _parse(url, text) for url, text in zip(self._urls, texts, strict=True)}
        counted = self._counters.absorb({url: counters_of(found) for url, found in samples.items()})
        return Reading(counted, [sample for found in samples.values() for sample in found])

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
        found = [sample for family in text_string_to_metric_families(lines + "\n") for sample in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise _no_metrics(url, error) from error
    for sample in found:
        if not math.isfinite(sample.value):
            raise _no_metrics(url, f"{sample.name} is {sample.value}")
    return found


def _no_metrics(url: str, found: object) -> Unreachable:
    return Unreachable(
        f"{url} answers, but not with Prometheus metrics ({found}); try `curl {url}` and correct the address"
    )
