"""Puts adapters behind the ports: the one place that knows which adapter serves which model.

Imported when work starts, never when a DAG file is parsed: the adapters' libraries take a second to import.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sluice.cluster.connection import connect
from sluice.cluster.coordinates import Coordinates
from sluice.cluster.lease import KubernetesLease, ModelLease, leases
from sluice.cluster.traffic import KubernetesTraffic
from sluice.cluster.workloads import KubernetesWorkloads
from sluice.engine.plan import Plan, pinned_in
from sluice.engine.replay import replay
from sluice.errors import BadInput, Refused
from sluice.evidence.behaviour import events
from sluice.evidence.endpoint import HttpEndpoint
from sluice.evidence.prometheus import PrometheusTelemetry
from sluice.evidence.prompts import read_prompts
from sluice.evidence.rubric import RubricJudge
from sluice.evidence.scorers import score, scorer_versions
from sluice.evidence.telemetry import ScrapedTelemetry
from sluice.guard import Claim, guard
from sluice.images.bundle import BundleImages
from sluice.images.cache import ModelCache
from sluice.images.docker_engine import DockerImages, EngineSettings
from sluice.ledger.store import FsspecLedger
from sluice.ledger.summary import summary
from sluice.policy import ReleasePolicy
from sluice.ports import Cache, Entry, Images, Ports, Prompt
from sluice.revisions.directory import DirectoryRevisions
from sluice.settings import Settings


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Opened:
    """A planned release, with everything that its use cases need."""

    ports: Ports
    plan: Plan
    root: Path


def coordinates(policy: ReleasePolicy) -> Coordinates:
    """The objects of a model in the cluster carry its name."""
    return Coordinates(policy.serving.namespace, policy.model, policy.model, policy.model, policy.serving.route)


def ledger(settings: Settings) -> FsspecLedger:
    return FsspecLedger(settings.ledger)


def telemetry_of(settings: Settings) -> ScrapedTelemetry | PrometheusTelemetry:
    """Prometheus where there is one. Raises BadInput if the settings name no source."""
    if settings.prometheus_url:
        return PrometheusTelemetry(
            settings.prometheus_url, interval=settings.prometheus_interval, token_file=settings.prometheus_token_file
        )
    if settings.metrics_urls:
        return ScrapedTelemetry(settings.metrics_urls)
    raise _unset("neither SLUICE_PROMETHEUS_URL nor SLUICE_METRICS_URLS is set")


def images_of(settings: Settings) -> Images:
    """Where images are built and kept."""
    if settings.images == "bundles":
        return BundleImages(settings.bundles)
    return DockerImages(
        EngineSettings(
            docker_host=settings.docker_host,
            registry_user=settings.registry_user,
            registry_password=settings.registry_password,
            build_args=settings.build_args,
            network=settings.build_network,
        )
    )


def _unset(what: str) -> BadInput:
    return BadInput(f"{what}; `make up` prints the sandbox's, a cluster's administrator knows a cluster's")


def cache_in(ports: Ports) -> Cache:
    """The model cache. Raises BadInput if there is none."""
    if ports.cache is None:
        raise BadInput("SLUICE_MODEL_CACHE is not set; it names the folder of the model cache (docs/model-cache.md)")
    return ports.cache


@asynccontextmanager
async def ports_for(settings: Settings, policy: ReleasePolicy) -> AsyncIterator[Ports]:
    """The ports of one model, open. Raises BadInput for what the settings lack."""
    if not settings.gateway_url:
        raise _unset("SLUICE_GATEWAY_URL is not set")
    where = coordinates(policy)
    async with (
        telemetry_of(settings) as telemetry,
        connect(settings.kubeconfig) as client,
        # A probe is given up when a user's request would count as failed.
        HttpEndpoint(
            settings.gateway_url,
            policy.serving.host,
            policy.model,
            timeout_seconds=policy.gates.errors.in_flight.total_seconds(),
            key=settings.endpoint_key,
        ) as endpoint,
        RubricJudge(settings.judge_key) as judge,
    ):
        yield Ports(
            traffic=KubernetesTraffic(client, where),
            workloads=KubernetesWorkloads(client, policy.model, where.namespace, settings.workload),
            lease=KubernetesLease(client, policy.model, where),
            revisions=DirectoryRevisions.of_source(policy.source, settings.root),
            images=images_of(settings),
            endpoint=endpoint,
            telemetry=telemetry,
            ledger=ledger(settings),
            clock=SystemClock(),
            cache=ModelCache(settings.model_cache) if settings.model_cache else None,
            prompts=_prompts,
            score=score,
            compare=judge.compare,
            scorer_versions=scorer_versions,
            events=partial(events, long_tokens=policy.gates.behaviour.long_tokens),
            report=report,
        )


@asynccontextmanager
async def opened(settings: Settings, model: str, release: str) -> AsyncIterator[Opened]:
    """A release that was planned before. Raises Refused if the ledger does not know it."""
    plan = pinned_in(await ledger(settings).entries(model, release), model, release)
    async with ports_for(settings, plan.policy) as ports:
        yield Opened(ports, plan, settings.root)


async def run_guard(
    settings: Settings, namespaces: Sequence[str], report: Callable[[str], None], *, tick_seconds: float
) -> None:
    """Run the guard for ever."""
    async with connect(settings.kubeconfig) as client:

        def traffic_of(lease: ModelLease) -> KubernetesTraffic:
            return KubernetesTraffic(client, lease.coordinates())

        async def find_claims() -> Sequence[Claim]:
            return [
                Claim(f"{lease.namespace}/{lease.model}", lease.state, partial(traffic_of, lease))
                for lease in await leases(client, namespaces)
                if lease.state.holder
            ]

        await guard(find_claims, SystemClock(), report, tick_seconds=tick_seconds)


async def summaries(settings: Settings, model: str) -> list[dict[str, Any]]:
    """What came of each release of a model, oldest first."""
    store = ledger(settings)
    return [
        {"release": release, **summary(await store.entries(model, release))} for release in await store.releases(model)
    ]


async def report(entries: Sequence[Entry]) -> bytes:
    """A release's page, HTML, whatever came of it."""
    return await asyncio.to_thread(_rendered, entries)


def _rendered(entries: Sequence[Entry]) -> bytes:
    from sluice.ledger.report.looks import LookAt
    from sluice.ledger.report.page import render  # the plotting library takes a second to import
    from sluice.ledger.report.story import story_of

    try:
        judged = replay(entries).looks
    except Refused:  # of an earlier version: the page shows what was recorded
        judged = ()
    looks = [
        LookAt(
            look.at, look.step, look.weight, look.observed_percent, [verdict.to_record() for verdict in look.verdicts]
        )
        for look in judged
    ]
    return render(story_of(entries, looks))


async def _prompts(path: Path) -> Sequence[Prompt]:
    return await asyncio.to_thread(read_prompts, path)
