"""All pods' metrics as one exposition, labelled as a Prometheus that scraped them would. Pure but for the scraping."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

SCRAPE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Target:
    """One pod to scrape, and the labels that its series get."""

    url: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Scrape:
    """What a target answered; None if it did not, or not in Prometheus' text format."""

    target: Target
    text: str | None


async def federate(session: aiohttp.ClientSession, targets: Iterable[Target]) -> bytes:
    return exposition(await asyncio.gather(*(_scrape(session, target) for target in targets)))


async def _scrape(session: aiohttp.ClientSession, target: Target) -> Scrape:
    limit = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)
    try:
        async with session.get(target.url, timeout=limit, headers={"Accept": "text/plain"}) as answer:
            return Scrape(target, await answer.text() if answer.status == 200 else None)
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
        return Scrape(target, None)


def exposition(scrapes: Iterable[Scrape]) -> bytes:
    """Families of the same name are merged; `up` says of each target whether it answered."""
    families: dict[str, Metric] = {}
    up = GaugeMetricFamily("up", "Whether the pod answered the scrape.")
    for scrape in scrapes:
        own = _families(scrape)
        up.add_sample("up", dict(scrape.target.labels), 0.0 if own is None else 1.0)
        for family in own or []:
            if family.name in families:
                families[family.name].samples.extend(family.samples)
            else:
                families[family.name] = family
    return generate_latest(_Fixed([up, *families.values()]))


def _families(scrape: Scrape) -> list[Metric] | None:
    if scrape.text is None:
        return None
    try:
        return [_labelled(family, scrape.target.labels) for family in text_string_to_metric_families(scrape.text)]
    except ValueError:
        return None


def _labelled(family: Metric, labels: Mapping[str, str]) -> Metric:
    """The target's labels win; a label of the same name from the pod becomes `exported_<name>`."""
    labelled = Metric(family.name, family.documentation, family.type)
    for sample in family.samples:
        own = {f"exported_{name}" if name in labels else name: value for name, value in sample.labels.items()}
        labelled.add_sample(sample.name, {**own, **labels}, sample.value)
    return labelled


class _Fixed(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
