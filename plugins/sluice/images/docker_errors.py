"""What an engine and a registry answer, as the library's errors: whether trying again can help is all that matters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from docker.errors import APIError, DockerException
from urllib3.exceptions import HTTPError

from sluice.errors import Refused, SluiceError, Unreachable

NOBODY_THERE = re.compile(
    r"dial tcp|connection (refused|reset)|no such host|timed? ?out|deadline exceeded|\bEOF\b|server misbehaving"
    r"|unexpected HTTP status: 5\d\d|toomanyrequests|network is unreachable|broken pipe",
    re.IGNORECASE,
)
"""In the engine's words for a registry that does not answer, or not now."""
COMMAND_FAILED = "returned a non-zero code"
"""A step of the Dockerfile failed: the words before are the command's own and say nothing about the network."""


def failure(what: str, message: str, remedy: str) -> SluiceError:
    """Unreachable if the engine's message says that somebody does not answer, else Refused with the remedy."""
    if COMMAND_FAILED not in message and NOBODY_THERE.search(message):
        return Unreachable(f"{what}: {message}")
    return Refused(f"{what}: {message}; {remedy}")


def words_of(error: APIError) -> str:
    """The daemon's own message."""
    return str(error.explanation or error)


@contextmanager
def translated(docker_host: str, what: str) -> Iterator[None]:
    """Raises `failure` for what the engine refuses, Unreachable for an engine that does not answer or breaks off."""
    try:
        yield
    except APIError as error:
        raise failure(what, words_of(error), "mend what the message names, then trigger the release again") from error
    except (DockerException, HTTPError, OSError) as error:
        raise Unreachable(f"{what}: the Docker Engine at {docker_host} does not answer: {error}") from error
