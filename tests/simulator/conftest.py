"""The simulator's own fixture serves its own tests."""

from crossfade.testing import provider_simulator

__all__ = ["provider_simulator"]
