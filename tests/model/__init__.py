"""The session protocol as a model whose every state is visited; no test here runs the package."""
