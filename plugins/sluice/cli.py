"""The `sluice` command: write a policy, run the guard, read and replay what was. No Airflow."""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from sluice import policy, settings, tables
from sluice.engine.drill import DrillResult
from sluice.engine.drill import drill as drilled
from sluice.engine.faults import Fault, drill_id
from sluice.engine.feasibility import BASE_RATE, feasibility
from sluice.engine.measured import last_measured
from sluice.engine.prune import prune
from sluice.engine.recorded import Load, Recorded, past, recorded
from sluice.errors import BadInput, SluiceError
from sluice.evidence.prompts import read_prompts
from sluice.ledger.store import FsspecLedger
from sluice.ports import CachedRevision, Entry, Prompt, cached_at

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def lint(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Policy files, or folders of them; none: all of SLUICE_RELEASES")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Users' requests per second; none: the policy's, or measured")
    ] = None,
    base_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a healthy version's requests that fail")
    ] = BASE_RATE,
    slow_rate: Annotated[float, typer.Option(min=0, max=1, help="Share over a latency limit")] = BASE_RATE,
) -> None:
    """Check policies and whether they can work; every mistake with file, line and remedy. Warnings do not fail."""
    where = settings.read()
    chosen = [path for named in files or [where.releases] for path in _policies_in(named)]
    results = [_lint(path, where, rate, base_rate, slow_rate) for path in chosen]
    if not all(results):
        raise typer.Exit(1)


def _policies_in(named: Path) -> list[Path]:
    """A folder's policies, or the file itself. Raises BadInput for a folder without any."""
    found = sorted(named.glob("*.yaml")) if named.is_dir() else [named]
    if not found:
        raise BadInput(f"{named}: holds no policy (*.yaml); name a file, or a folder of them, or set SLUICE_RELEASES")
    return found


def _lint(path: Path, where: settings.Settings, rate: float | None, base_rate: float, slow_rate: float) -> bool:
    """Say all that is wrong with one file; whether nothing is."""
    try:
        chosen = policy.read(path)
    except BadInput as mistake:
        return _say(str(mistake).splitlines())
    prompts, mistakes = _prompts(where.root / chosen.gates.quality.prompts)
    measured, calibration = asyncio.run(last_measured(FsspecLedger(where.ledger), chosen.model))
    known = rate or chosen.rate or (measured.rate if measured else None)
    found = feasibility(chosen, prompts, known, base_rate, slow_rate, calibration)
    for warning in (*found.warnings, *(_worse(measured, base_rate, slow_rate) if measured else ())):
        typer.echo(f"sluice: {path}: warning: {warning}", err=True)
    good = _say([f"{path}: {problem}" for problem in (*mistakes, *found.problems)])
    ladder = " → ".join(map(str, chosen.ladder))
    typer.echo(f"{path}: {chosen.model}, ladder {ladder} %: {'good' if good else 'refused'}")
    for note in found.notes:
        typer.echo(f"  {note}")
    if found.steps:
        tables.show_times(found)
    return good


def _worse(measured: Load, base_rate: float, slow_rate: float) -> Iterator[str]:
    """What is worse than what was reckoned with, so that the times are too short."""
    for option, reckoned, rate in (
        ("base-rate", base_rate, measured.base_rate),
        ("slow-rate", slow_rate, measured.slow_rate),
    ):
        if rate > reckoned:
            yield f"--{option}: {reckoned:g} is less than the {rate:.2g} of the last release; its times are too short"


def _prompts(path: Path) -> tuple[Sequence[Prompt] | None, Sequence[str]]:
    """A prompt set, or what is wrong with it."""
    try:
        return read_prompts(path), ()
    except BadInput as mistake:
        return None, (f"gates.quality.prompts: {mistake}",)


def _say(mistakes: Sequence[str]) -> bool:
    for mistake in mistakes:
        typer.echo(f"sluice: {mistake}", err=True)
    return not mistakes


@app.command()
def tune(
    file: Annotated[Path, typer.Argument(metavar="POLICY", help="A policy file")],
    source: Annotated[
        str, typer.Option("--from", help="`ledger` (SLUICE_LEDGER), a ledger's folder or URL, or `prometheus`")
    ] = "ledger",
    repetitions: Annotated[int, typer.Option(min=1, help="Releases to play, healthy and with each fault")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed plays the same releases")] = 1,
    output: Annotated[str, typer.Option(help="table or json")] = "table",
) -> None:
    """Play releases on recorded traffic: a policy's false alarms, and how soon it finds faults."""
    from numpy.random import default_rng

    from sluice.engine import tune as tuning

    chosen = policy.read(file)
    record = asyncio.run(_record(settings.read(), chosen, source))
    found = tuning.tune(chosen, record, default_rng(seed), repetitions, lambda line: typer.echo(line, err=True))
    if output == "json":
        typer.echo(json.dumps(asdict(found) | {"sentences": found.sentences}, indent=2))
        return
    tables.show_tuned(found)


async def _record(where: settings.Settings, chosen: policy.ReleasePolicy, source: str) -> Sequence[Recorded]:
    """Stable's windows, oldest first."""
    if source == "prometheus":
        return await _past(where, chosen)
    store = FsspecLedger(where.ledger if source == "ledger" else source)
    releases = await store.releases(chosen.model)
    return [window for name in releases for window in recorded(await store.entries(chosen.model, name))]


async def _past(where: settings.Settings, chosen: policy.ReleasePolicy) -> Sequence[Recorded]:
    from sluice.assembly import ports_for

    if not where.prometheus_url:
        raise BadInput("SLUICE_PROMETHEUS_URL is not set, and single scrapes keep no past; set it, or use the ledger")
    async with ports_for(where, chosen) as ports:
        return await past(ports, chosen, where.prometheus_interval)


@app.command()
def replay(
    name: Annotated[str, typer.Argument(metavar="MODEL|RELEASE", help="A model, or a release's id")],
    release: Annotated[str | None, typer.Argument(help="A release of the model; none: the latest")] = None,
) -> None:
    """Compute every verdict of a release again from the ledger, and compare: they must be identical."""
    from sluice.engine.replay import replay as replayed

    name, entries = asyncio.run(_entries(settings.read(), name, release))
    found = replayed(entries)
    for one in found.compared:
        differences = "; ".join(tables.differences(one.recorded, one.recomputed))
        what = f"DIFFERS: {differences}" if differences else one.recorded["outcome"]
        typer.echo(f"{name} entry {one.entry_number} {one.gate}: {what}")
    same = sum(one.same for one in found.compared)
    typer.echo(f"{name}: {same} of {len(found.compared)} verdicts are identical")
    if not found.same:
        raise typer.Exit(1)


async def _entries(where: settings.Settings, name: str, release: str | None) -> tuple[str, Sequence[Entry]]:
    """A release's id and entries, by the model's name, or by the id alone."""
    store = FsspecLedger(where.ledger)
    model = name
    if release is None:
        owners = [each for each in await store.models() if name in await store.releases(each)]
        model, release = (owners[0], name) if owners else (name, None)
    known = await store.releases(model)
    if not known or (release and release not in known):
        raise BadInput(
            f"{model}: the ledger {where.ledger} does not know {f'release {release}' if release else 'any release'}; "
            f"`sluice history {model}` lists what it knows"
        )
    chosen = release or known[-1]
    return chosen, await store.entries(model, chosen)


@app.command()
def guard(
    tick_seconds: Annotated[float, typer.Option(help="Seconds between two looks")] = 1.0,
    namespace: Annotated[list[str] | None, typer.Option(help="Namespaces to watch; none: all of them")] = None,
) -> None:
    """Watch the leases of releases, and give last good all traffic when one runs out."""
    from sluice.assembly import run_guard

    asyncio.run(run_guard(settings.read(), namespace or [], typer.echo, tick_seconds=tick_seconds))


@app.command()
def history(
    model: str,
    output: Annotated[str, typer.Option(help="table or json")] = "table",
) -> None:
    """A model's releases as the ledger tells them, oldest first."""
    from sluice.assembly import summaries

    rows = asyncio.run(summaries(settings.read(), model))
    if output == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(Column("release", no_wrap=True), "revision", "outcome", "reason")
    for row in rows:
        table.add_row(row["release"], row["revision"], row["outcome"], row["reason"])
    Console().print(table)


@app.command()
def drill(
    model: str,
    fault: Annotated[list[Fault] | None, typer.Option(help="Only this one, or several; none: the policy's")] = None,
) -> None:
    """Put bad versions of the stable revision through the gates, which must block them; no user reaches them."""
    from sluice.assembly import ports_for

    where = settings.read()
    chosen = policy.read(where.releases / f"{model}.yaml")
    results: list[DrillResult] = []

    async def one_after_the_other() -> None:
        async with ports_for(where, chosen) as ports:
            for each in fault or map(Fault, chosen.drill.faults):
                release = drill_id(each, datetime.now(UTC), secrets.token_hex())
                who = getpass.getuser()
                results.append(
                    await drilled(
                        ports, chosen, each, release=release, requested_by=who, root=where.root, progress=typer.echo
                    )
                )

    try:
        asyncio.run(one_after_the_other())
    finally:
        table = Table("fault", "drill", "gate", "pairs", "seconds", "sentence")
        for result in results:
            outcome = "passed" if result.passed else "FAILED"
            table.add_row(
                result.fault, outcome, result.gate, str(result.pairs), f"{result.seconds:.0f}", result.sentence
            )
        if results:
            Console().print(table)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


cache = typer.Typer(no_args_is_help=True, help="Revisions in the model cache.")
app.add_typer(cache, name="cache")


@cache.command("list")
def list_cached(model: str) -> None:
    """A model's revisions in the cache, and the versions that use them."""

    async def look(where: settings.Settings) -> tuple[Sequence[CachedRevision], Mapping[str, str]]:
        from sluice.assembly import cache_in, ports_for

        async with ports_for(where, policy.read(where.releases / f"{model}.yaml")) as ports:
            return await cache_in(ports).revisions(model), await ports.workloads.revisions()

    held, versions = asyncio.run(look(settings.read()))
    table = Table(Column("revision", no_wrap=True), "MB", "last wanted", "versions")
    for each in held:
        users = [version for version, digest in versions.items() if cached_at(model, digest).name == each.name]
        wanted = each.wanted_at.isoformat(timespec="seconds")
        table.add_row(each.name, f"{each.size_bytes / 1e6:.1f}", wanted, ", ".join(users))
    Console().print(table)


@cache.command("prune")
def prune_cache(
    model: str,
    grace_hours: Annotated[float, typer.Option(min=0, help="Keep what somebody wanted in this time")] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed")] = False,
) -> None:
    """Remove the revisions of a model that no version uses from the cache."""

    async def pruned(where: settings.Settings) -> Sequence[str]:
        from sluice.assembly import cache_in, ports_for

        async with ports_for(where, policy.read(where.releases / f"{model}.yaml")) as ports:
            return await prune(ports, cache_in(ports), model, timedelta(hours=grace_hours), dry_run=dry_run)

    removed = asyncio.run(pruned(settings.read()))
    for name in removed:
        typer.echo(f"{name}: {'would be removed' if dry_run else 'removed'}")
    if not removed:
        typer.echo(f"{model}: nothing to remove")


def main() -> None:
    """Entry point: an error of the library is one sentence, never a traceback."""
    try:
        app()
    except SluiceError as error:
        typer.echo(f"sluice: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
