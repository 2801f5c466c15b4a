"""Lists in pages: `limit` and `continue`; unlike a real API server's, a later page shows the present state.

The resourceVersion of all pages is the first one's, so a watch from there brings every change, perhaps once more.
"""

import base64
import json
from collections.abc import Mapping, Sequence

from sandbox.apiserver import status
from sandbox.apiserver.kinds import Object

_TOKEN_VERSION = "meta.k8s.io/v1"


def page(items: Sequence[Object], current: int, limit: int, token: str) -> tuple[list[Object], Object]:
    """The items of this page and the list's metadata. A limit of 0 is none; items are ordered by namespace and name.

    Raises:
        ApiError: 400 for a token that this server did not give.
    """
    version, start = _parse(token) if token else (current, "")
    rest = [item for item in items if _key(item) > start]
    shown = rest[:limit] if limit else rest
    metadata: Object = {"resourceVersion": str(version)}
    if len(shown) < len(rest):
        metadata["continue"] = _token(version, _key(shown[-1]))
        metadata["remainingItemCount"] = len(rest) - len(shown)
    return list(shown), metadata


def _key(item: Object) -> str:
    metadata: Mapping[str, str] = item["metadata"]
    return f"/{metadata.get('namespace', '')}/{metadata['name']}"


def _token(version: int, start: str) -> str:
    stated = {"v": _TOKEN_VERSION, "rv": version, "start": start}
    return base64.urlsafe_b64encode(json.dumps(stated).encode()).decode().rstrip("=")


def _parse(token: str) -> tuple[int, str]:
    try:
        stated = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(stated["rv"]), str(stated["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise status.bad_request(f"invalid continue token: continue key is not valid: {error}") from error
