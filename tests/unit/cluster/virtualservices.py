"""VirtualServices as people write them, and releases as they go: strategies for hypothesis."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
from hypothesis import settings
from hypothesis import strategies as st

from sluice import release
from sluice.cluster.coordinates import Coordinates
from sluice.release import Phase, Record

MODEL = Coordinates(namespace="ai", virtual_service="model", destination_rule="model", host="model")
OLD, NEW = "8f2c", "41ab"

whole_releases = settings(deadline=None, max_examples=40)
"""An example is a whole release, a dozen patches: fewer of them, and no limit of time on a busy machine."""

_texts = st.text("abcdefgh-", min_size=1, max_size=8)
_paths = st.builds(lambda text: {"prefix": "/" + text}, _texts)
_matches = st.fixed_dictionaries(
    {},
    optional={
        "uri": _paths,
        "headers": st.dictionaries(_texts, st.builds(lambda text: {"exact": text}, _texts), max_size=2),
        "withoutHeaders": st.dictionaries(_texts, st.just({}), min_size=1, max_size=1),
        "queryParams": st.dictionaries(_texts, st.builds(lambda text: {"regex": text}, _texts), min_size=1, max_size=1),
        "port": st.sampled_from([80, 8080]),
    },
)
_behaviours = {
    "match": st.lists(_matches, max_size=2),
    "timeout": st.sampled_from(["0s", "30s", "15m"]),
    "retries": st.sampled_from([{"attempts": 0}, {"attempts": 2, "retryOn": "connect-failure,refused-stream"}]),
    "rewrite": st.just({"uri": "/v1"}),
    "headers": st.just({"response": {"remove": ["server"]}}),
    "corsPolicy": st.just({"allowOrigins": [{"exact": "https://chat.example.com"}]}),
    "fault": st.just({"abort": {"httpStatus": 503, "percentage": {"value": 1}}}),
    "mirror": st.just({"host": "shadow"}),
    "mirrorPercentage": st.just({"value": 5}),
    "mirrors": st.just([{"destination": {"host": "model", "subset": "v-0000"}}]),
}
_foreign_routes = st.one_of(
    st.fixed_dictionaries({"redirect": st.just({"uri": "/docs"})}, optional={"match": st.lists(_matches, max_size=2)}),
    st.fixed_dictionaries(
        {"route": st.just([{"destination": {"host": "model", "subset": "stable"}, "weight": 100}])},
        optional={"name": st.sampled_from(["batch", "admin"]), **_behaviours},
    ),
    st.fixed_dictionaries({"name": _texts, "delegate": st.just({"name": "other"})}),
)
_annotations = st.none() | st.dictionaries(
    st.sampled_from(["team", "example.com/cost~centre", "a/b"]), _texts, max_size=3
)


@st.composite
def named_routes(draw: st.DrawFn) -> dict[str, Any]:
    """The route that a release owns the destinations of, all of them the old version's."""
    host = draw(st.sampled_from(["model", "model.ai.svc.cluster.local"]))
    port = draw(st.sampled_from([{}, {"port": {"number": 8080}}]))
    operations = draw(st.sampled_from([{}, {"headers": {"request": {"set": {"x-model": "a"}}}}]))
    entry = {"destination": {"host": host, "subset": f"v-{OLD}", **port}, **operations}
    weight = draw(st.sampled_from([{}, {"weight": 100}]))
    return {"name": MODEL.route, **draw(st.fixed_dictionaries({}, optional=_behaviours)), "route": [entry | weight]}


@st.composite
def virtual_services(draw: st.DrawFn) -> dict[str, Any]:
    """No release is open, and the old version has all traffic."""
    before, after = draw(st.lists(_foreign_routes, max_size=3)), draw(st.lists(_foreign_routes, max_size=3))
    annotations = draw(_annotations)
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": "model",
            "namespace": "ai",
            "uid": "u",
            "resourceVersion": "1",
            "labels": {"team": "ml"},
            **({} if annotations is None else {"annotations": annotations}),
        },
        "spec": {
            "hosts": ["model.example.com", "model"],
            "gateways": draw(st.permutations(["ingress", "mesh"])),
            "http": [*before, draw(named_routes()), *after],
            **draw(st.sampled_from([{}, {"tcp": [{"route": [{"destination": {"host": "db"}}]}]}])),
        },
    }


def begun(last_good: str = OLD, token: str = "t0k3n") -> Record:
    return Record("r1", 1, Phase.BEGUN, NEW, last_good, (5, 25, 50), token)


def forward(steps: int = 3) -> list[Record]:
    """The records of a release from its beginning to the advance of `steps` steps."""
    records = [begun(), release.examined(begun())]
    for step in range(steps):
        records.append(release.shifted(records[-1], step))
        records.append(release.advanced(records[-1], step))
    return records


def committed() -> list[Record]:
    """A whole release that ends well."""
    promoted = release.promoted(forward()[-1])
    return [*forward(), promoted, release.committed(promoted), release.closed(release.committed(promoted))]


@st.composite
def rolled_back(draw: st.DrawFn) -> list[Record]:
    """A release that goes back from any of its states."""
    way = committed()[:-2]
    way = way[: draw(st.integers(1, len(way)))]
    back = release.rolled_back(way[-1], "errors: 9 of 40 against 0 of 760")
    return [*way, back, release.closed(back)]


releases = rolled_back() | st.just(committed())


def rule(*subsets: dict[str, Any]) -> dict[str, Any]:
    """A DestinationRule of the model with these subsets."""
    return {
        "kind": "DestinationRule",
        "metadata": {"name": "model", "namespace": "ai", "uid": "d", "resourceVersion": "1"},
        "spec": {
            "host": "model",
            "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"}},
            "subsets": [*subsets],
        },
    }


def version(name: str, **fields: Any) -> dict[str, Any]:
    """The subset of a version."""
    return {"name": f"v-{name}", "labels": {"version": name}, **fields}


def patched(document: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """What an API server makes of it: applied as a whole, with a new resourceVersion if something changed."""
    after: dict[str, Any] = jsonpatch.apply_patch(document, patch)
    return touched(after) if patch else after


def touched(document: dict[str, Any]) -> dict[str, Any]:
    after = copy.deepcopy(document)
    after["metadata"]["resourceVersion"] = str(int(after["metadata"]["resourceVersion"]) + 1)
    return after


def without_owned(document: dict[str, Any]) -> dict[str, Any]:
    """What belongs to the user: all but the record, the probe routes and the destinations of the named route."""
    left = copy.deepcopy(document)
    metadata, spec = left["metadata"], left["spec"]
    del metadata["resourceVersion"]
    annotations = metadata.pop("annotations", {})
    metadata["annotations"] = {key: value for key, value in annotations.items() if not key.startswith("sluice.dev/")}
    spec["http"] = [route for route in spec["http"] if not route.get("name", "").startswith("sluice-")]
    named = next(route for route in spec["http"] if route.get("name") == MODEL.route)
    del named["route"]
    return left
