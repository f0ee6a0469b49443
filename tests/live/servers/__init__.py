"""Throw-away servers for live tests: one module a server, on the base in ``server``."""
