"""Watches: how fast, from where, and in which order."""

import json
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from sandbox.apiserver.kinds import KINDS
from sandbox.apiserver.storage import Store
from sandbox.apiserver.watching import Watch
from sandbox.apiserver.watching import events as watched
from tests.contract.kubernetes_api.api_processes import ApiServer
from tests.contract.kubernetes_api.objects import MERGE, config_map, virtual_service, virtual_services

CONFIG_MAP = next(kind for kind in KINDS if kind.name == "ConfigMap")
MAXIMUM_MEDIAN_SECONDS = 0.02


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        yield json.loads(line)


def test_an_event_reaches_the_watcher_within_milliseconds(api: httpx.Client, namespace: str) -> None:
    api.post(virtual_services(namespace), json=virtual_service()).raise_for_status()
    path, delays = f"{virtual_services(namespace)}/v", []
    with api.stream("GET", virtual_services(namespace), params={"watch": "1", "timeoutSeconds": "20"}) as response:
        seen = events(response)
        next(seen)
        for weight in range(50):
            began = time.monotonic()
            change = {"metadata": {"annotations": {"n": str(weight)}}}
            api.patch(path, json=change, headers=MERGE).raise_for_status()
            assert next(seen)["object"]["metadata"]["annotations"]["n"] == str(weight)
            delays.append(time.monotonic() - began)
    assert statistics.median(delays) < MAXIMUM_MEDIAN_SECONDS, (
        f"median of write and event: {statistics.median(delays)} s"
    )


def test_a_watch_goes_on_where_the_list_ended(api: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, json=config_map("before")).raise_for_status()
    version = api.get(path).json()["metadata"]["resourceVersion"]
    api.post(path, json=config_map("after")).raise_for_status()
    api.delete(f"{path}/before").raise_for_status()
    watch = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "1"}
    found = [(one["type"], one["object"]["metadata"]["name"]) for one in events(api.get(path, params=watch))]
    assert found == [("ADDED", "after"), ("DELETED", "before")]


async def test_a_version_from_before_the_retained_events_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", retained_events=3)
    for number in range(5):
        store.put(CONFIG_MAP, {**config_map(namespace="n"), "data": {"a": str(number)}})
    since = {version: await first(store, version) for version in (1, store.version - 3)}
    store.close()
    assert (since[1][0], since[1][1]["code"], since[1][1]["reason"]) == ("ERROR", 410, "Expired")
    assert since[store.version - 3][0] == "MODIFIED"


async def first(store: Store, version: int) -> tuple[str, dict[str, Any]]:
    watch = Watch(CONFIG_MAP, "v1", lambda item: True, since=version, timeout_seconds=5)
    return await anext(watched(store, watch))


def test_a_version_of_another_cluster_is_too_large(api: httpx.Client) -> None:
    watch = {"watch": "1", "resourceVersion": "99999999", "timeoutSeconds": "10"}
    (event,) = events(api.get("/api/v1/pods", params=watch))
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 504, "Timeout")


def test_a_restart_keeps_objects_versions_and_events(fresh: ApiServer) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    with httpx.Client(base_url=fresh.url) as api:
        first = api.post(path, json=config_map("first")).raise_for_status().json()
        listed = api.get(path).json()["metadata"]["resourceVersion"]
        api.post(path, json=config_map("second")).raise_for_status()
        api.delete(f"{path}/second").raise_for_status()
    fresh.stop(signal.SIGKILL)
    fresh.start()
    with httpx.Client(base_url=fresh.url) as api:
        assert api.get(f"{path}/first").json() == first
        watch = {"watch": "1", "resourceVersion": listed, "timeoutSeconds": "1"}
        found = [(one["type"], one["object"]["metadata"]["name"]) for one in events(api.get(path, params=watch))]
        third = api.post(path, json=config_map("third")).json()
    assert found == [("ADDED", "second"), ("DELETED", "second")]
    assert int(third["metadata"]["resourceVersion"]) > int(listed) + 2


def test_a_stopping_server_ends_its_watches(tmp_path: Path) -> None:
    server = ApiServer(tmp_path)
    server.start()
    with httpx.stream("GET", f"{server.url}/api/v1/pods", params={"watch": "1"}, timeout=10) as response:
        assert server.stop() == 0
        assert list(response.iter_lines()) == []
