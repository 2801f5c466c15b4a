"""A cluster for one machine: API server, controllers, node and gateway. For development, tests and demonstration."""
