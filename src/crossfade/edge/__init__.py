"""The data plane's endpoints."""
