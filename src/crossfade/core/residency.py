"""Where a provider keeps what it is sent, and what a route wants of that.

Data and the one comparison. What a provider does not say does not meet any requirement.
"""

from __future__ import annotations

import msgspec

DAY = 86_400.0


class Residence(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of a provider. `region`: "" if it says nothing. `retention` is for how many seconds
    prompts are kept there, 0 for not at all, None if nothing is said."""

    region: str = ""
    retention: float | None = None
    tags: tuple[str, ...] = ()


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What every target of a route must meet: one of `regions` (none: any), at most `retention` seconds, all `tags`."""

    regions: tuple[str, ...] = ()
    retention: float | None = None
    tags: tuple[str, ...] = ()

    def unmet(self, place: Residence) -> str | None:
        """What of it a provider at `place` does not meet, in words; None: nothing."""
        if self.regions and not any(is_within(place.region, region) for region in self.regions):
            return f"region {' or '.join(self.regions)} is required, and it is in {place.region or 'no known one'}"
        if self.retention is not None and (place.retention is None or place.retention > self.retention):
            kept = "no retention is known of it" if place.retention is None else f"it has {_days(place.retention)}"
            return f"retention {_days(self.retention)} is required, and {kept}"
        missing = [tag for tag in self.tags if tag not in place.tags]
        if missing:
            return f"the tag{'s' if len(missing) > 1 else ''} {', '.join(missing)} {_ARE[len(missing) > 1]} required"
        return None


_ARE = ("is", "are")


def is_within(region: str, wanted: str) -> bool:
    """Whether `region` is `wanted` or a part of it, as `eu-west-1` is of `eu`. Case does not matter."""
    region, wanted = region.lower(), wanted.lower()
    return region == wanted or region.startswith(f"{wanted}-")


def _days(seconds: float) -> str:
    return "none" if seconds == 0 else f"{seconds / DAY:g}d"
