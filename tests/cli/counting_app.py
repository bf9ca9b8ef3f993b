"""A plain ASGI application whose workers share one counter."""

import os
from typing import Any

import aiomanager


class Application:
    """Answers each request with the number of requests so far, and the worker's process id."""

    def __init__(self) -> None:
        self.hits: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with aiomanager.connect() as manager:
                self.hits = await manager.named.dict("hits")
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            number = await self.hits.increment("all")
            body = f"{number} {os.getpid()}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})


application = Application()
