"""The one HTTP route of a VirtualService whose destinations releases own: found, checked, and read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.cluster.coordinates import Coordinates, Document, version_of
from sluice.errors import Ambiguous

Route = Mapping[str, Any]
"""An entry of `spec.http`."""


def named_route(vs: Document, coordinates: Coordinates) -> tuple[int, Route]:
    """Its place in `spec.http`, and itself. Raises Ambiguous, naming object, field and remedy, if it is not clear."""
    where, spec = coordinates.where, vs["spec"]
    _check_bound(spec.get("gateways") or ["mesh"], where)
    routes: Sequence[Route] = spec.get("http") or []
    if not routes and (spec.get("tcp") or spec.get("tls")):
        raise Ambiguous(f"{where}: it has tcp or tls routes only; add an http route named {coordinates.route}")
    found = [(index, route) for index, route in enumerate(routes) if route.get("name") == coordinates.route]
    if len(found) != 1:
        names = ", ".join(str(route.get("name", "(unnamed)")) for route in routes) or "none"
        how_many = f"{len(found)} http routes are" if found else "no http route is"
        raise Ambiguous(
            f"{where}: {how_many} named {coordinates.route} (spec.http has: {names}); "
            "give the name to the one route whose destinations the releases shall own"
        )
    index, route = found[0]
    _check_destinations(route, f"{where}: spec.http[{index}]", coordinates)
    return index, route


def _check_bound(gateways: Sequence[str], where: str) -> None:
    if "mesh" not in gateways or set(gateways) == {"mesh"}:
        raise Ambiguous(
            f"{where}: spec.gateways is {list(gateways)}; name the gateway and `mesh`, "
            "else callers on one of the two sides bypass the weights"
        )


def _check_destinations(route: Route, at: str, coordinates: Coordinates) -> None:
    if "delegate" in route:
        raise Ambiguous(f"{at}.delegate: another VirtualService decides here; name the route that has the destinations")
    destinations = route.get("route")
    if not destinations:
        raise Ambiguous(f"{at}.route: no destinations; give it one, host {coordinates.host} with a subset v-<version>")
    for number, entry in enumerate(destinations):
        host = entry["destination"].get("host", "")
        if not coordinates.is_host(host):
            raise Ambiguous(
                f"{at}.route[{number}].destination.host is {host}, not {coordinates.host}; "
                "move it to a route of its own, or correct the host in the policy"
            )
        if shape(entry) != shape(destinations[0]):
            raise Ambiguous(
                f"{at}.route[{number}] differs from route[0] in more than subset and weight; make them equal"
            )


def check_weights(destinations: Sequence[Mapping[str, Any]], at: str) -> None:
    """Raises Ambiguous if a destination is no version's, or they do not make 100."""
    subsets = [entry["destination"].get("subset") for entry in destinations]
    for number, name in enumerate(subsets):
        if name is None or version_of(name) is None:
            problem = "no subset" if name is None else f"the subset {name}"
            raise Ambiguous(f"{at}[{number}] has {problem}; releases need v-<version>, defined in the DestinationRule")
        if name in subsets[:number]:
            raise Ambiguous(f"{at}[{number}] names the subset {name} again; keep one destination with the whole weight")
    found = weights_of(destinations)
    if sum(found.values()) != 100 or min(found.values()) < 0:
        shares = ", ".join(f"{version} {weight}" for version, weight in found.items())
        raise Ambiguous(f"{at}: the weights ({shares}) do not make 100; correct them")


def weights_of(destinations: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Percent by version, as written; a subset that is no version's stands for itself."""
    found: dict[str, int] = {}
    for entry in destinations:
        name = entry["destination"].get("subset", "(no subset)")
        weight = entry.get("weight", 100 if len(destinations) == 1 else 0)
        version = version_of(name) or name
        found[version] = found.get(version, 0) + weight
    return found


def shape(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A destination without what a release decides: host as it was spelled, port, header operations."""
    destination = {key: value for key, value in entry["destination"].items() if key != "subset"}
    return {key: value for key, value in entry.items() if key != "weight"} | {"destination": destination}
