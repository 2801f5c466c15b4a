"""The errors of the library, split by what the caller should do.

    SluiceError
    ├── RetryLater        the world did not answer or moved: the same call may work soon
    │   ├── Unreachable       API server, gateway, metrics or registry do not answer
    │   └── Conflict          somebody else wrote the object first; re-read, decide anew
    ├── Refused           the call makes no sense now, and will not until somebody acts
    │   ├── BadInput          a policy, revision, prompt set or setting is wrong
    │   ├── Ambiguous         an object in the cluster does not say clearly who has the traffic
    │   ├── LeaseHeld         another release holds the model
    │   └── DeadlineExceeded  what was waited for did not come in its time
    ├── Superseded        another writer has taken over (rolled back, guard, other release): stop, write nothing
    └── RolledBack        the release went back to last good, because of evidence; the verdict, not a fault

Every message names the thing, what is wrong with it, and the remedy. Adapters translate foreign errors with
`from error`.
"""

from __future__ import annotations


class SluiceError(Exception):
    """Base of all errors that the library raises on purpose."""


class RetryLater(SluiceError):
    """The same call may work soon; nothing was decided."""


class Unreachable(RetryLater):
    """A part of the world does not answer (names the address and how to look)."""


class Conflict(RetryLater):
    """Another writer changed the object between reading and writing it."""


class Refused(SluiceError):
    """The call makes no sense in the present state; trying again changes nothing."""


class BadInput(Refused):
    """Something a person wrote is wrong: names file, field, and what would be right."""


class Ambiguous(Refused):
    """A cluster object does not say clearly who has the traffic, so nothing is written to it."""


class LeaseHeld(Refused):
    """Another release holds the model's lease."""


class DeadlineExceeded(Refused):
    """What was waited for did not come in its time (names the phase and the deadline)."""


class Superseded(SluiceError):
    """Another writer has taken over this release or its model; whoever reads this stops and writes nothing."""


class RolledBack(SluiceError):
    """Evidence sent the release back to last good; the message is the reason."""


def kind_of(error: SluiceError) -> str:
    """The name of the error's class in this module, for records; adapters have finer ones."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == __name__)


def of_kind(kind: str, sentence: str) -> SluiceError:
    """The error that `kind_of` has named."""
    made: SluiceError = globals()[kind](sentence)
    return made
