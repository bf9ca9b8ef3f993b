"""Where messages meet objects: both ends of a session, and the store. No socket, clock or loop."""
