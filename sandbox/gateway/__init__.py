"""The sandbox's gateway: Envoy, configured from Istio's and Kubernetes' objects. Pure rendering, thin processes."""
