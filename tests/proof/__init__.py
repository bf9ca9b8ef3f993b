"""Campaigns that look for what is lost, done twice, leaked or stuck; `python -m tests.proof`."""
