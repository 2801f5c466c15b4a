"""What the client sends and wants: media types, query parameters and bodies of requests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sandbox.apiserver import status
from sandbox.apiserver.registry import DeleteOptions, Options

_BODY_TYPES = ("application/json", "application/yaml")
_INSTEAD_OF_PROTOBUF = "send JSON; instead of kubectl create use kubectl apply, or kubectl create -f FILE"
_WORDS = {"true": True, "1": True, "": True, "false": False, "0": False}


@dataclass(frozen=True)
class Wanted:
    """One alternative of an Accept header: media type and the Kubernetes parameters `as`, `g`, `v`."""

    media_type: str
    parameters: Mapping[str, str]


def accepted(header: str) -> list[Wanted]:
    """The alternatives of an Accept header, in its order."""
    found = []
    for part in header.split(","):
        media_type, *parameters = [piece.strip() for piece in part.split(";")]
        found.append(Wanted(media_type, dict(one.split("=", 1) for one in parameters if "=" in one)))
    return found


def wanted_form(header: str) -> tuple[str, str]:
    """The form that the client prefers (`Table`, `APIGroupDiscoveryList`, or empty) and its version."""
    for one in accepted(header):
        form = one.parameters.get("as", "")
        if one.media_type in ("application/json", "*/*", "") and form in ("", "Table", "APIGroupDiscoveryList"):
            return form, one.parameters.get("v", "v1")
    return "", ""


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean query parameter; absent is false.

    Raises:
        ApiError: 400 for another word.
    """
    if name not in query:
        return False
    if query[name].lower() not in _WORDS:
        raise status.bad_request(f"{name}: {query[name]!r} is not a boolean: use true or false")
    return _WORDS[query[name].lower()]


def number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number among the query parameters, or None.

    Raises:
        ApiError: 400 for anything else.
    """
    text = query.get(name, "")
    if not text:
        return None
    if not text.isdigit():
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax ({name})')
    return int(text)


def write_options(query: Mapping[str, str]) -> Options:
    """What a write asks for.

    Raises:
        ApiError: 400 for a value that does not exist.
    """
    return Options(dry_run(query.get("dryRun")), _field_validation(query.get("fieldValidation") or "Warn"))


def dry_run(value: str | None) -> bool:
    """Whether the only value of dryRun is given.

    Raises:
        ApiError: 400 for another value.
    """
    if value not in (None, "", "All"):
        raise status.bad_request(f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return value == "All"


def _field_validation(value: str) -> str:
    if value not in ("Ignore", "Warn", "Strict"):
        supported = '"Ignore", "Strict", "Warn"'
        raise status.bad_request(f'fieldValidation: Unsupported value: "{value}": supported values: {supported}')
    return value


def delete_options(query: Mapping[str, str], stated: Mapping[str, Any]) -> DeleteOptions:
    """What a deletion asks for, in its body or its query parameters; the body wins.

    Raises:
        ApiError: 400 for a value that does not exist.
    """
    preconditions = stated.get("preconditions") or {}
    policy = stated.get("propagationPolicy") or query.get("propagationPolicy") or _legacy_policy(stated, query)
    if policy not in ("Background", "Foreground", "Orphan"):
        raise status.bad_request(f'propagationPolicy: Unsupported value: "{policy}"')
    grace = stated.get("gracePeriodSeconds")
    return DeleteOptions(
        policy=policy,
        grace_seconds=number(query, "gracePeriodSeconds") if grace is None else int(grace),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        dry_run=dry_run(query.get("dryRun") or next(iter(stated.get("dryRun") or ()), None)),
    )


def _legacy_policy(stated: Mapping[str, Any], query: Mapping[str, str]) -> str:
    orphan = stated.get("orphanDependents") or flag(query, "orphanDependents")
    return "Orphan" if orphan else "Background"


def parse_body(content_type: str, raw: bytes, kind_name: str) -> Any:
    """The body of a create, update or delete request.

    Raises:
        ApiError: 400 when it cannot be parsed, 415 for another media type.
    """
    media_type = content_type.partition(";")[0].strip() or "application/json"
    if media_type == "application/vnd.kubernetes.protobuf":
        raise status.left_out("protobuf", _INSTEAD_OF_PROTOBUF)
    if media_type not in _BODY_TYPES:
        raise status.unsupported_media_type(_BODY_TYPES)
    return parse(raw, media_type, f"the object provided is unrecognized (must be of type {kind_name})")


def parse(raw: bytes, media_type: str, complaint: str) -> Any:
    """JSON, or YAML where the media type says so.

    Raises:
        ApiError: 400 beginning with the complaint.
    """
    try:
        return yaml.safe_load(raw) if media_type.endswith("yaml") else json.loads(raw)
    except (ValueError, yaml.YAMLError) as error:
        reason = "unexpected end of JSON input" if _ends_early(error, raw) else str(error)
        shown = raw.decode(errors="replace")
        message = f"{complaint}: couldn't get version/kind; json parse error: {reason} ({shown})"
        raise status.bad_request(message) from error


def _ends_early(error: Exception, raw: bytes) -> bool:
    return isinstance(error, json.JSONDecodeError) and error.pos >= len(raw.rstrip())
