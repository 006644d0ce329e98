"""References to secrets, and hashes of keys."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from crossfade.config.secrets import SecretRef, hash_key, new_key, parse_hash, parse_secret


def test_a_trailing_newline_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("abc\r\n\n")
    assert SecretRef("file", str(tmp_path / "key")).read({}) == "abc"
    assert SecretRef("env", "K").read({"K": "abc\n"}) == "abc"


@pytest.mark.parametrize("value", ["", "\n", "a b", "a\nb", "a\r\nX-Evil: 1", "schlüssel", "a\x00b"])
def test_what_cannot_be_a_header_is_no_secret(value: str) -> None:
    with pytest.raises(ValueError, match="env:K") as caught:
        SecretRef("env", "K").read({"K": value})
    assert not value.strip() or value not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not text"):
        SecretRef("file", str(tmp_path / "key")).read({})


@pytest.mark.parametrize("value", ["sk-secret", "env:", "env:A B", "file:", "vault:x", 12345, None, "ENV:X"])
def test_anything_but_a_reference_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(ValueError) as caught:
        parse_secret(value)
    assert str(value) not in str(caught.value) or value in ("env:", "file:")


def test_references_show_themselves() -> None:
    assert str(parse_secret("env:A")) == "env:A"
    assert str(parse_secret("file:/a/b")) == "file:/a/b"


def test_new_keys_are_long_random_and_hashed() -> None:
    key = new_key()
    assert key.startswith("cf-")
    assert len(key) == 3 + 43
    assert new_key() != key
    assert hash_key(key) == "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert parse_hash(hash_key(key)) == hash_key(key)
    with pytest.raises(ValueError, match="crossfade keys new") as caught:
        parse_hash(key)
    assert key not in str(caught.value)
