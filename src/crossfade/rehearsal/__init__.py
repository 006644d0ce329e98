"""Proves that the fallback works. Calls only through the runner."""
