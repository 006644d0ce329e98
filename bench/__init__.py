"""What crossfade costs beside nginx as a plain reverse proxy, measured in one run: `scripts/bench`."""
