"""Tests of the async clients, on every loop."""
