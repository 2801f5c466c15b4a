"""What can go wrong with the engine, and what to do about it.

EngineError
├── EngineMissing   an engine cannot be had on this machine: install what the message names
└── StartFailed     a part did not come up: read the log that the message names
"""


class EngineError(Exception):
    """The engine cannot be had as asked; the message says what is in the way and the remedy."""


class EngineMissing(EngineError):
    """Rights or programs are missing on this machine."""


class StartFailed(EngineError):
    """A process ended while starting or did not answer in time, or the base image could not be made."""
