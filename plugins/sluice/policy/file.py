"""A policy's file → `ReleasePolicy`; every mistake is a BadInput with file, line, field, and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sluice.errors import BadInput
from sluice.policy.model import ReleasePolicy, Step


def parse(text: str, where: str) -> ReleasePolicy:
    """The policy in `text`. Raises BadInput listing every mistake; `where` names the file in the message."""
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except ValueError as error:  # a date that cannot be, a number of thousands of digits
        raise BadInput(f"{where}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise BadInput(f"{where}: a policy is a mapping of fields, starting with `model:`")
    try:
        return ReleasePolicy.of(raw)
    except ValidationError as error:
        problems = [_problem(text, where, detail) for detail in error.errors()]
        raise BadInput("\n".join(problems)) from error


def read(path: Path) -> ReleasePolicy:
    """The policy in a file. Raises BadInput."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    policy = parse(text, str(path))
    if policy.model != path.stem:
        raise BadInput(
            f"{path}:{_line(text, ['model'])}: model: {policy.model!r} stands in {path.name}, but a policy's file has "
            f"its model's name: rename the file to {policy.model}.yaml, or the model to {path.stem}"
        )
    return policy


def _problem(text: str, where: str, detail: Any) -> str:
    """One mistake as `file:line: field: what is wrong`."""
    location = [part for part in detail["loc"] if isinstance(part, str | int)]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = f"unknown field; known here: {', '.join(_known_fields(location[:-1]))}"
    elif detail["type"] == "missing":
        message = "is missing"
    elif "input" in detail and isinstance(detail["input"], str | int | float):
        message = f"{message} (found {detail['input']!r})"
    line = _line(text, location)
    return f"{where}:{line}: {field + ': ' if field else ''}{message}"


def _known_fields(location: list[str | int]) -> list[str]:
    kind: Any = ReleasePolicy
    for part in location:
        if isinstance(part, str):
            annotation = kind.model_fields[part].annotation
            kind = Step if part == "steps" else annotation
    return sorted(kind.model_fields)


def _line(text: str, location: list[str | int]) -> int:
    """The line of the innermost node of `location` that is in the file (1-based)."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = node.start_mark.line if node else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1
