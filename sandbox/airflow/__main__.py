"""`python -m sandbox.airflow up|down|status`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.airflow import lifecycle
from sandbox.airflow.errors import AirflowError
from sandbox.airflow.settings import DEFAULT_HOME, DEFAULT_PORT, USER, Settings, secrets_of


def main() -> int:
    """Exit status 0 if it is as asked (for `status`: healthy), 1 if not, with one message on standard error."""
    options = _parser().parse_args()
    settings = Settings(options.home, options.port, options.dags, options.plugins)
    try:
        return {"up": _up, "down": _down, "status": _status}[options.command](settings)
    except AirflowError as error:
        print(error, file=sys.stderr)
        return 1


def _up(settings: Settings) -> int:
    lifecycle.up(settings, _say)
    _say(f"Airflow: {settings.url}   user {USER}, password {secrets_of(settings.home).password}")
    return 0


def _down(settings: Settings) -> int:
    lifecycle.down(settings, _say)
    return 0


def _status(settings: Settings) -> int:
    state = lifecycle.healthy(settings)
    for label, good in state.items():
        _say(f"{label}: {'healthy' if good else 'not healthy'}")
    _say(f"{len(lifecycle.all_pids(settings))} processes, {settings.url}, log {settings.log}")
    return 0 if all(state.values()) else 1


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.airflow", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--home", type=Path, default=DEFAULT_HOME, help="what Airflow writes (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="of API server and UI (default: %(default)s)")
    parser.add_argument("--dags", type=Path, default=Path("dags"), help="DAG folder (default: %(default)s)")
    parser.add_argument("--plugins", type=Path, default=Path("plugins"), help="plugins folder (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
