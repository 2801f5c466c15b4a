"""The verbs of the API: rules applied to the store. Synchronous, so every verb is atomic on the event loop."""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sandbox.apiserver import garbage, lifecycle, patching, rules, schema, status
from sandbox.apiserver.decoding import Decoder
from sandbox.apiserver.defaults import with_defaults
from sandbox.apiserver.kinds import EVENT, NAMESPACE, POD, SERVICE, Kind, Object, group_version
from sandbox.apiserver.selectors import Predicate, label_selector_text
from sandbox.apiserver.status import ApiError, Cause
from sandbox.apiserver.storage import Store

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MUST_NAME_VERSION = Cause("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
_BINDING_DEFINITION = "io.k8s.api.core.v1.Binding"
_SCALE_DEFINITION = "io.k8s.api.autoscaling.v1.Scale"


@dataclass(frozen=True)
class Options:
    """What a write may ask for besides the object."""

    dry_run: bool = False
    field_validation: str = "Warn"


@dataclass(frozen=True)
class DeleteOptions:
    """How to delete. `grace_seconds` None is the pod's own; the preconditions are None when not given."""

    policy: str = "Background"
    grace_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Written:
    """The outcome of a write, with the warnings that the client should see."""

    item: Object
    warnings: tuple[str, ...] = ()


class Registry:
    """Create, read, update, patch and delete objects of every kind."""

    def __init__(
        self,
        store: Store,
        definitions: schema.Definitions,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.store = store
        self.definitions = definitions
        self._clock = clock
        self._new_uid = new_uid
        self._decoder = Decoder(definitions)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """The stored object.

        Raises:
            ApiError: 404.
        """
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise status.not_found(kind, name)
        return found

    def select(self, kind: Kind, selects: Predicate) -> list[Object]:
        """The selected objects, ordered by namespace and name."""
        return [item for item in self.store.all_of(kind) if selects(item)]

    def create(self, kind: Kind, version: str, namespace: str | None, body: Object, options: Options) -> Written:
        """Store a new object.

        Raises:
            ApiError: 400, 403, 404, 409 or 422, as a real API server says it.
        """
        body = self._decoder.understood(kind, version, namespace, body)
        if namespace is not None:
            self._check_namespace(kind, namespace, body["metadata"].get("name", ""))
        body, warnings = self._decoder.checked(kind, body, options.field_validation)
        named = {**body, "metadata": self._named(kind, body["metadata"])}
        fresh = lifecycle.created(kind, named, namespace=namespace, now=self._clock(), uid=self._new_uid())
        item = with_defaults(kind, self._with_address(kind, fresh))
        name = item["metadata"]["name"]
        problems = [*rules.name_problems(kind, name), *rules.problems(kind, item)]
        if problems:
            raise status.invalid(kind.name, kind.group, name, problems)
        if self.store.get(kind, namespace, name) is not None:
            raise status.already_exists(kind, name)
        return Written(item if options.dry_run else self.store.put(kind, item), warnings)

    def _named(self, kind: Kind, metadata: Object) -> Object:
        if metadata.get("name") or not metadata.get("generateName"):
            return metadata
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
        return {**metadata, "name": f"{metadata['generateName'][:58]}{suffix}"}

    def _with_address(self, kind: Kind, item: Object) -> Object:
        """A service gets an address of its own. Nothing listens there: the gateway routes by EndpointSlice."""
        spec = item.get("spec", {})
        if kind is not SERVICE or spec.get("clusterIP") or spec.get("type") == "ExternalName":
            return item
        taken = {other["spec"].get("clusterIP") for other in self.store.all_of(SERVICE)}
        address = next(
            address for number in range(1, 1 << 16) if (address := f"10.96.{number >> 8}.{number & 255}") not in taken
        )
        return {**item, "spec": {**spec, "clusterIP": address, "clusterIPs": [address]}}

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        found = self.store.get(NAMESPACE, None, namespace)
        if found is None:
            raise status.not_found(NAMESPACE, namespace)
        if "deletionTimestamp" in found["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            text = f"namespace {namespace} is being terminated"
            raise status.forbidden(kind, name, why, [Cause("metadata.namespace", text, "NamespaceTerminating")])

    def update(
        self,
        kind: Kind,
        version: str,
        namespace: str | None,
        name: str,
        body: Object,
        options: Options,
        subresource: str = "",
    ) -> Written:
        """Replace an object, or one of its subresources.

        Raises:
            ApiError: 400, 404, 409 or 422, as a real API server says it.
        """
        old = self.get(kind, namespace, name)
        if subresource == "scale":
            return self._put_scale(kind, old, body, options)
        new = self._decoder.understood(kind, version, namespace, body)
        self._check_identity(kind, old, new["metadata"])
        if kind.needs_resource_version and not new["metadata"].get("resourceVersion"):
            raise status.invalid(kind.plural, kind.group, name, [_MUST_NAME_VERSION])
        return self._replace(kind, old, new, options, subresource)

    def _check_identity(self, kind: Kind, old: Object, metadata: Object) -> None:
        name, uid = old["metadata"]["name"], old["metadata"]["uid"]
        if metadata.get("name", name) != name:
            raise status.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        if metadata.get("uid", uid) != uid:
            key = "/".join(filter(None, ["/registry", kind.group, kind.plural, metadata.get("namespace"), name]))
            raise status.conflict(
                kind,
                name,
                f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {uid}",
            )

    def _replace(self, kind: Kind, old: Object, new: Object, options: Options, subresource: str) -> Written:
        new, warnings = self._decoder.checked(kind, new, options.field_validation)
        merged = lifecycle.updated(kind, old, with_defaults(kind, new), subresource)
        if merged == old:
            return Written(old, warnings)
        problems = [*rules.problems(kind, merged), *rules.update_problems(kind, old, merged)]
        if problems:
            raise status.invalid(kind.name, kind.group, old["metadata"]["name"], problems)
        return Written(self._store(kind, merged, options.dry_run), warnings)

    def _store(self, kind: Kind, item: Object, dry_run: bool) -> Object:
        if dry_run:
            return item
        if lifecycle.is_finished(item):
            self.store.remove(kind, item)
            return item
        return self.store.put(kind, item)

    def patch(
        self,
        kind: Kind,
        version: str,
        namespace: str | None,
        name: str,
        content_type: str,
        body: Any,
        options: Options,
        subresource: str = "",
    ) -> Written:
        """Patch an object, or one of its subresources, in the format that the content type names.

        Raises:
            ApiError: 400, 404, 409, 415, 422 as a real API server says it; 501 for server-side apply.
        """
        if content_type not in kind.patch_types:
            raise status.unsupported_media_type(kind.patch_types)
        if content_type == "application/apply-patch+yaml":
            raise status.left_out(
                "server-side apply", "use kubectl apply without --server-side, or a JSON or merge patch"
            )
        old = self.get(kind, namespace, name)
        scaling = subresource == "scale"
        shown = scale_of(old) if scaling else presented(old, kind, version)
        definition = _SCALE_DEFINITION if scaling else kind.definition
        patched = self._patched(shown, content_type, body, definition)
        if scaling:
            return self._put_scale(kind, old, patched, options)
        new = self._decoder.understood(kind, version, namespace, patched)
        self._check_identity(kind, old, new["metadata"])
        return self._replace(kind, old, new, options, subresource)

    def _patched(self, item: Object, content_type: str, body: Any, definition: str) -> Object:
        if content_type == "application/json-patch+json":
            return patching.json_patch(item, body)
        if not isinstance(body, dict):
            raise status.bad_request("error decoding patch: json: a patch of this type must be an object")
        if content_type == "application/merge-patch+json":
            merged: Object = patching.merge_patch(item, body)
            return merged
        return patching.strategic_merge_patch(item, body, definition, self.definitions)

    def _put_scale(self, kind: Kind, old: Object, body: Object, options: Options) -> Written:
        scale = self._decoder.decoded("Scale", _SCALE_DEFINITION, body)
        replicas = scale.get("spec", {}).get("replicas", 0)
        metadata = {**old["metadata"], "resourceVersion": scale.get("metadata", {}).get("resourceVersion")}
        new = {**old, "metadata": metadata, "spec": {**old["spec"], "replicas": replicas}}
        return Written(scale_of(self._replace(kind, old, new, options, "").item))

    def bind(self, namespace: str, name: str, body: Object, options: Options) -> None:
        """Give a pod its node, once.

        Raises:
            ApiError: 400 for something else than a Binding, 404 without such a pod, 409 when it has a node already.
        """
        pod = self.get(POD, namespace, name)
        node = self._decoder.decoded("Binding", _BINDING_DEFINITION, body)["target"].get("name")
        if not node:
            raise status.invalid("Binding", "", name, [Cause("target.name", "Required value", "FieldValueRequired")])
        if pod["spec"].get("nodeName"):
            raise status.conflict(POD, name, f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"')
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastTransitionTime": lifecycle.timestamp(self._clock()),
        }
        others = [one for one in pod["status"].get("conditions", []) if one["type"] != "PodScheduled"]
        bound = {
            **pod,
            "spec": {**pod["spec"], "nodeName": node},
            "status": {**pod["status"], "conditions": [*others, scheduled]},
        }
        self._store(POD, with_defaults(POD, bound), options.dry_run)

    def delete(self, kind: Kind, namespace: str | None, name: str, options: DeleteOptions) -> Object:
        """Delete, or mark for deletion; answers with the object as long as it exists, else with a Status.

        Raises:
            ApiError: 404, or 409 when a precondition does not hold.
        """
        old = self.get(kind, namespace, name)
        _check_preconditions(kind, old, options)
        marked = lifecycle.marked_for_deletion(
            kind, old, now=self._clock(), policy=options.policy, grace_seconds=options.grace_seconds
        )
        if not lifecycle.is_finished(marked):
            return old if marked == old else self._store(kind, marked, options.dry_run)
        if not options.dry_run:
            self.store.remove(kind, old)
        return marked if kind.returns_deleted else status.success(kind, name, old["metadata"]["uid"])

    def collect(self) -> bool:
        """One round of garbage collection; whether there was anything to do."""
        old_news = garbage.expired_events(self.store.all_of(EVENT), self._clock())
        steps = [*garbage.next_steps(self.store.everything()), *old_news]
        for step in steps:
            self._take(step)
        return bool(steps)

    def _take(self, step: garbage.Step) -> None:
        item = self.store.get(step.kind, step.namespace, step.name)
        if item is None:
            return  # an earlier step of the round took it along
        metadata = item["metadata"]
        if step.verb == "finish namespace":
            self.store.remove(NAMESPACE, item)
        elif step.verb == "drop finalizer":
            left = [name for name in metadata["finalizers"] if name != step.argument]
            self._store(step.kind, _with_metadata(item, finalizers=left), dry_run=False)
        elif step.verb == "drop owner":
            kept = [owner for owner in metadata["ownerReferences"] if owner["uid"] != step.argument]
            self._store(step.kind, _with_metadata(item, ownerReferences=kept), dry_run=False)
        else:
            policy = "Foreground" if step.verb == "delete foreground" else "Background"
            self.delete(step.kind, step.namespace, step.name, DeleteOptions(policy=policy))


def _with_metadata(item: Object, **changes: Any) -> Object:
    return {**item, "metadata": lifecycle.tidy_metadata({**item["metadata"], **changes})}


def _check_preconditions(kind: Kind, item: Object, options: DeleteOptions) -> None:
    metadata = item["metadata"]
    for what, wanted, found, then in (
        ("UID", options.uid, metadata["uid"], "deleted and then recreated"),
        ("ResourceVersion", options.resource_version, metadata["resourceVersion"], "modified"),
    ):
        if wanted is not None and wanted != found:
            qualified = f"{kind.name}.{kind.group}" if kind.group else kind.name
            details = {**status.details_of(kind, metadata["name"]), "kind": kind.name}
            message = (
                f'Operation cannot be fulfilled on {qualified} "{metadata["name"]}": the {what} in the precondition '
                f"({wanted}) does not match the {what} in record ({found}). The object might have been {then}"
            )
            raise ApiError(409, "Conflict", message, details)


def scale_of(item: Object) -> Object:
    """The scale subresource of a Deployment or ReplicaSet."""
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    found = {"replicas": item.get("status", {}).get("replicas", 0)}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: item["metadata"][key] for key in shown if key in item["metadata"]},
        "spec": {"replicas": item["spec"].get("replicas", 1)},
        "status": {**found, "selector": label_selector_text(item["spec"]["selector"])},
    }


def presented(item: Object, kind: Kind, version: str) -> Object:
    """The object in the version that the client asked for."""
    return item if version == kind.versions[0] else {**item, "apiVersion": group_version(kind.group, version)}
