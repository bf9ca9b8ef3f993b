"""The server: a listener on sockets, and the process around it."""
