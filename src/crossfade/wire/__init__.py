"""Client and provider dialects: bytes to canonical types and back. No I/O."""
