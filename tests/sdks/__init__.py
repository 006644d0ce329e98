"""Clients that people use, unmodified: what they make of an answer is the same with the gateway between as without."""
