"""The `sluice` command: lint a policy, run the guard, read the history. No Airflow."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sluice import policy, settings
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


def main() -> None:
    """Entry point: an error of the library is one sentence, never a traceback."""
    try:
        app()
    except SluiceError as error:
        typer.echo(f"sluice: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
