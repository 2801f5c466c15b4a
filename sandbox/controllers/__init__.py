"""Controllers: Deployment to ReplicaSet to Pods, Service to EndpointSlices.

Each controller is a pure function from the objects it sees to the writes it wants (`deployments`, `replica_sets`,
`endpoint_slices`); `loop` watches, calls them and writes. They are clients of the Kubernetes API and work against any.
"""
