"""Tests of the command line: each runs the real command in a process of its own."""
