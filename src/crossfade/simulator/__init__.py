"""A provider simulator that fails on request in every way providers fail. Usable alone: it needs the core only."""
