"""Bytes and messages, as the spec in protocol/ describes them. No sockets, no clock, no loop."""
