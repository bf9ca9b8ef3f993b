"""The clients: an asyncio, a trio and a blocking shell around one session core."""

# Whatever is used of this room, its channels then know how to find each other.
from aiomanager.client import _channels as _channels
