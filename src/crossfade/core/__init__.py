"""Decisions: pure values and the current time in, the next thing to do out. No I/O, no clock reads."""
