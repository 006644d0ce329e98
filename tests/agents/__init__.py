"""Coding agents, unchanged, with their base URL on the gateway."""
