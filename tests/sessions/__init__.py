"""Tests of the session, the store, and of both against a network that fails."""
