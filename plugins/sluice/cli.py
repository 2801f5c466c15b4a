"""The `sluice` command: lint a policy, run the guard, read the history. No Airflow."""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sluice import policy, settings
from sluice.engine.drill import DrillResult
from sluice.engine.drill import drill as drilled
from sluice.engine.faults import Fault, drill_id
from sluice.engine.plan import certifiable
from sluice.errors import SluiceError
from sluice.evidence.prompts import read_prompts

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def lint(files: Annotated[list[Path], typer.Argument(help="Policy files; none: all of SLUICE_RELEASES")]) -> None:
    """Check policies and what they name; every mistake with file, line and remedy."""
    root = settings.read().root
    for path in files:
        chosen = policy.read(path)
        certifiable(chosen, read_prompts(root / chosen.gates.quality.prompts))
        typer.echo(f"{path}: {chosen.model}, ladder {' → '.join(map(str, chosen.ladder))} %: good")


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
    table = Table("release", "revision", "outcome", "reason")
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


def main() -> None:
    """Entry point: an error of the library is one sentence, never a traceback."""
    try:
        app()
    except SluiceError as error:
        typer.echo(f"sluice: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
