"""What can go wrong with the sandbox's Airflow, and what to do about it.

AirflowError
├── PortTaken     another program listens there: choose a port
├── StartFailed   it did not become healthy: read the log that the message names
├── NotUp         nobody answers: start it
├── Rejected      the REST API said no: the request is wrong
└── Overdue       what was waited for did not happen in time
"""


class AirflowError(Exception):
    """The sandbox's Airflow cannot do what was asked; the message says what and the remedy."""


class PortTaken(AirflowError):
    """The port of the API server belongs to another program."""


class StartFailed(AirflowError):
    """Airflow died while starting, or was not healthy before the deadline."""


class NotUp(AirflowError):
    """No Airflow answers at the address."""


class Rejected(AirflowError):
    """The REST API refused a request; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Overdue(AirflowError):
    """A deadline passed before the awaited state was there."""
