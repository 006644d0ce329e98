"""What a provider has to meet, and what of it is not met, in words."""

from __future__ import annotations

import pytest

from crossfade.core.residency import DAY, Requirement, Residence, is_within

EU = Residence(region="eu-west-1", retention=0.0, tags=("a", "b"))


@pytest.mark.parametrize(
    ("requirement", "place", "unmet"),
    [
        (Requirement(), Residence(), None),
        (Requirement(regions=("eu",)), EU, None),
        (Requirement(regions=("us", "EU")), EU, None),
        (Requirement(regions=("us",)), EU, "region us is required, and it is in eu-west-1"),
        (
            Requirement(regions=("us", "ch")),
            Residence(),
            "region us or ch is required, and it is in no known one",
        ),
        (Requirement(retention=0.0), EU, None),
        (Requirement(retention=7 * DAY), Residence(retention=7 * DAY), None),
        (Requirement(retention=0.0), Residence(), "retention none is required, and no retention is known of it"),
        (Requirement(retention=7 * DAY), Residence(retention=30 * DAY), "retention 7d is required, and it has 30d"),
        (Requirement(tags=("b", "a")), EU, None),
        (Requirement(tags=("a", "c")), EU, "the tag c is required"),
        (Requirement(tags=("c", "d")), EU, "the tags c, d are required"),
    ],
)
def test_what_is_not_met_is_said(requirement: Requirement, place: Residence, unmet: str | None) -> None:
    assert requirement.unmet(place) == unmet


def test_a_part_of_a_region_is_within_it_and_a_word_that_begins_alike_is_not() -> None:
    assert is_within("eu-west-1", "eu")
    assert not is_within("europe", "eu")
    assert not is_within("eu", "eu-west-1")
    assert not is_within("", "eu")
