"""What all clients of this room have in common: they keep connections open, and somebody has to close them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx


class Closing:
    """An async context manager around `_client`."""

    _client: httpx.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()
