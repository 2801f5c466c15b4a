"""Why a container does not run, each a reason in its pod's status; and why none can."""


class ContainerConfigError(Exception):
    """A container asks for something that is not there, or that this node cannot give; the message names it."""


class ImageError(Exception):
    """An image cannot be had; the message names it and says why."""


class StartError(Exception):
    """The container's entrypoint cannot be executed; the message names it."""


class EngineError(Exception):
    """The Docker Engine does not answer, or refuses; the message is its own."""
