"""HTTPMatchRequest -> Envoy's RouteMatch. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.gateway.fields import Fields

Json = dict[str, Any]


def route_matches(http: Fields) -> list[Json]:
    """The RouteMatches of one HTTPRoute: any of them selects it. No `match` at all means every request."""
    entries = http.children("match")
    if not entries:
        return [{"prefix": "/"}]
    return [match for match in (_match(entry) for entry in entries) if match is not None]


def _match(entry: Fields) -> Json | None:
    """None, and a note, when a condition is unknown: without it the entry would match more than it says."""
    entry.take("name")
    match = _path(entry.take("uri"), ignore_case=bool(entry.take("ignoreUriCase", False)))
    headers = [_string(name, condition) for name, condition in entry.take("headers", {}).items()]
    for key in ("method", "authority", "scheme"):
        if condition := entry.take(key):
            headers.append(_string(f":{key}", condition))
    for name, condition in entry.take("withoutHeaders", {}).items():
        headers.append({**_string(name, condition), "invert_match": True})
    parameters = [_parameter(name, condition) for name, condition in entry.take("queryParams", {}).items()]
    if entry.rest():
        for key in entry.rest():
            entry.note(key, "unknown condition; the match entry is left out")
        return None
    if headers:
        match["headers"] = headers
    if parameters:
        match["query_parameters"] = parameters
    return match


def _path(uri: Mapping[str, str] | None, *, ignore_case: bool) -> Json:
    sensitivity = {"case_sensitive": False} if ignore_case else {}
    match uri:
        case {"exact": text}:
            return {"path": text, **sensitivity}
        case {"prefix": text}:
            return {"prefix": text, **sensitivity}
        case {"regex": text}:
            return {"safe_regex": {"regex": text}}
    return {"prefix": "/"}


def _string(name: str, condition: Mapping[str, str] | None) -> Json:
    """A header condition; an empty one asks that the header is there."""
    matcher = _matcher(condition)
    return {"name": name, "string_match": matcher} if matcher else {"name": name, "present_match": True}


def _parameter(name: str, condition: Mapping[str, str] | None) -> Json:
    matcher = _matcher(condition)
    return {"name": name, "string_match": matcher} if matcher else {"name": name, "present_match": True}


def _matcher(condition: Mapping[str, str] | None) -> Json | None:
    match condition:
        case {"exact": text}:
            return {"exact": text}
        case {"prefix": text}:
            return {"prefix": text}
        case {"regex": text}:
            return {"safe_regex": {"regex": text}}
    return None
