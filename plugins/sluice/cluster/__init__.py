"""Traffic, workloads and lease on the Kubernetes API: the only room that talks to Kubernetes.

`virtualservice` and `destinationrule` are pure: dicts in, JSON patches out. `api` is the one place where requests are
made and foreign errors are translated. The package imports nothing by itself: Kubernetes' client takes long to load.
"""
