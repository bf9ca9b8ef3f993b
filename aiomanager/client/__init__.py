"""The clients: an asyncio, a trio and a blocking shell around one session core."""
