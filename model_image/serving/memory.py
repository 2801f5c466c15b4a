"""Telling that memory ran out from other errors: one request then wanted too much, and nothing is broken."""

import torch

_ALLOCATORS_WORDS = ("can't allocate memory", "out of memory", "not enough memory")
"""What torch's allocators for CPUs say, by a plain RuntimeError."""


EXPLANATION = "the server ran out of memory over this request; ask for less at once, or give the server more memory"
"""For the client of the request that was given up."""


def ran_out(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATORS_WORDS)
