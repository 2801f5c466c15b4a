"""Failures of the API as Kubernetes' `Status` objects: one exception type, one constructor for each reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.apiserver.kinds import Kind, Object


class ApiError(Exception):
    """A request that the API refuses; `body` is the Status object, `code` the HTTP status."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details is not None:
            self.body["details"] = dict(details)


@dataclass(frozen=True)
class Cause:
    """One reason why an object is invalid: the path of the field, what is wrong with it, Kubernetes' word for that."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


def details_of(kind: Kind, name: str | None) -> dict[str, str]:
    """What a Status says about the object it is about; the core group has no name."""
    named = {"name": name} if name else {}
    group = {"group": kind.group} if kind.group else {}
    return {**named, **group, "kind": kind.plural}


def success(kind: Kind, name: str, uid: str) -> Object:
    """The Status that answers a completed deletion."""
    details = {**details_of(kind, name), "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def not_found(kind: Kind, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(404, "NotFound", f'{kind.group_resource} "{name}" not found', details_of(kind, name))


def already_exists(kind: Kind, name: str) -> ApiError:
    """409 AlreadyExists: the name is taken."""
    return ApiError(409, "AlreadyExists", f'{kind.group_resource} "{name}" already exists', details_of(kind, name))


def conflict(kind: Kind, name: str, why: str) -> ApiError:
    """409 Conflict: the write was made for another state of the object."""
    message = f'Operation cannot be fulfilled on {kind.group_resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, details_of(kind, name))


def modified(kind: Kind, name: str) -> ApiError:
    """409 Conflict: the resourceVersion of the write is not the object's."""
    return conflict(
        kind, name, "the object has been modified; please apply your changes to the latest version and try again"
    )


def invalid(kind_name: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object is understood but not allowed; every cause with the field's path."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    qualified = f"{kind_name}.{group}" if group else kind_name
    details = {
        **({"name": name} if name else {}),
        **({"group": group} if group else {}),
        "kind": kind_name,
        "causes": [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes],
    }
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {listed}', details)


def bad_request(message: str) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403: understood, and not allowed in the present state."""
    details: dict[str, Any] = dict(details_of(kind, name))
    if causes:
        details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    return ApiError(403, "Forbidden", f'{kind.group_resource} "{name}" is forbidden: {why}', details)


def unauthorized() -> ApiError:
    """401: the request names a user that the server does not know."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def unprocessable_patch() -> ApiError:
    """422: a JSON patch whose test fails or whose path does not exist, in the words of a real API server."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: a content type that this resource does not take."""
    message = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", message + ", ".join(accepted))


def method_not_allowed() -> ApiError:
    """405: the resource has no such verb."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def expired(requested: int, oldest: int) -> ApiError:
    """410: the events after `requested` are no longer kept; list again."""
    return ApiError(410, "Expired", f"too old resource version: {requested} ({oldest})")


def too_large_resource_version(requested: int, current: int) -> ApiError:
    """504: a resourceVersion that this server has not reached; it is another cluster's, so list again."""
    message = f"Too large resource version: {requested}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})


def left_out(what: str, remedy: str) -> ApiError:
    """501: a part of the Kubernetes API that this subset does not have; the message names it and what to do instead."""
    message = f"this server speaks a subset of the Kubernetes API without {what}: {remedy}"
    return ApiError(501, "NotImplemented", message)
