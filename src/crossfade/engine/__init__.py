"""Drives the core over providers and transport."""
