"""`python -m sandbox.engine up | down`: a Docker Engine, a registry and a base image for this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.engine.errors import EngineError
from sandbox.engine.lifecycle import down, up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start what does not run, wait for it, and print the path of engine.json")
    start.add_argument("--base-image", default="", help="use this one instead of making one")
    stop = commands.add_parser("down", help="stop what `up` started")
    for command in (start, stop):
        command.add_argument("--state", type=Path, default=Path("var/engine"), help="directory of all its files")
    options = parser.parse_args()
    state = options.state.resolve()
    try:
        if options.command == "up":
            up(state, _say, base_image=options.base_image)
            print(state / "engine.json")
        else:
            down(state, _say)
    except EngineError as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
