"""Loopback addresses for pods: each pod its own, none used twice before all others were."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from random import Random

from sandbox.processes import replace_file

POD_NETWORK = ipaddress.IPv4Network("127.64.0.0/10")


class Addresses:
    """Hands out the network's addresses in turn; the next one is remembered in a file.

    It begins anywhere, so that two sandboxes of one machine do not meet.
    """

    def __init__(self, path: Path, random: Random) -> None:
        self._path = path
        self._next = int(path.read_text()) if path.exists() else random.randrange(POD_NETWORK.num_addresses)

    def take(self) -> str:
        while True:
            self._next = (self._next + 1) % POD_NETWORK.num_addresses
            address = POD_NETWORK[self._next]
            if address.packed[3] not in (0, 255):
                replace_file(self._path, str(self._next))
                return str(address)
