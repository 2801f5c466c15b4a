"""Objects for the tests."""

from typing import Any

Object = dict[str, Any]

MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}


def virtual_services(namespace: str) -> str:
    """The path of the collection."""
    return f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices"


def deployments(namespace: str) -> str:
    """The path of the collection."""
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def virtual_service(name: str = "v", weight: int = 100, **metadata: Any) -> Object:
    """A VirtualService with one route."""
    route = [{"destination": {"host": "m"}, "weight": weight}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, **metadata},
        "spec": {"hosts": ["m.example.com"], "http": [{"name": "live", "route": route}]},
    }


def deployment(name: str = "m", replicas: int = 1, value: str = "1", **spec: Any) -> Object:
    """A Deployment with one container; `value` is in its template, so another one is a new template."""
    container = {
        "name": "c",
        "image": "nginx:1",
        "env": [{"name": "A", "value": value}],
        "ports": [{"name": "http", "containerPort": 7860}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def config_map(name: str = "c", **metadata: Any) -> Object:
    """A ConfigMap with one entry."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"a": "1"}}
