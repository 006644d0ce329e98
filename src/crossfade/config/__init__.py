"""Files and environment to validated core objects."""
