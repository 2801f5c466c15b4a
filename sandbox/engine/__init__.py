"""A Docker Engine, a registry and a base image for machines where nothing can be pulled.

`python -m sandbox.engine up --state DIR` starts them and describes them in `DIR/engine.json`; `down` ends what it
started. An engine that runs already is used only if DOCKER_HOST names it, and never stopped.
"""
