"""References to secrets, and the hashes that gateway keys are kept as.

Decides where a secret may come from. No message here ever holds a secret.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACCOUNT = re.compile(r"[A-Za-z0-9][\w.:@-]{0,99}", re.ASCII)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_FILE = 64 * 1024
KEY_PREFIX = "cf-"
MIN_KEY_LENGTH = 20
"""A hash without salt and stretching is safe only for keys that nobody can guess."""


class SecretRef(msgspec.Struct, frozen=True):
    """Where a secret is: `env:VAR` or `file:PATH`. Never the secret itself."""

    kind: Literal["env", "file"]
    name: str

    def read(self, environ: Mapping[str, str]) -> str:
        """The secret as it is now, without a trailing newline. Raises ValueError, saying what to do."""
        text = self._from_file() if self.kind == "file" else self._from_environment(environ)
        secret = text.rstrip("\r\n")
        if not secret:
            raise ValueError(f"{self} is empty; put the key there")
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise ValueError(f"{self} has characters that no key has (a space, a line break); check what is there")
        return secret

    def _from_environment(self, environ: Mapping[str, str]) -> str:
        value = environ.get(self.name)
        if value is None:
            raise ValueError(f"the environment variable {self.name!r} is not set; export it, or remove this key")
        return value

    def _from_file(self) -> str:
        try:
            with Path(self.name).open("rb") as file:
                return file.read(_MAX_FILE).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{self} is not text; put the key alone there") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self} cannot be read: {_why(error)}; check the path and its permissions") from None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class ApiKey(msgspec.Struct, frozen=True):
    """A provider's key, and the account that it is of, where that is named."""

    key: SecretRef
    account: str = ""

    def __str__(self) -> str:
        return str(self.key)


def parse_api_key(value: object) -> ApiKey:
    """A secret, or a mapping of `key` and `account`. Raises ValueError, without the value: it may be a key."""
    if not isinstance(value, dict):
        return ApiKey(parse_secret(value))
    if not {"key"} <= value.keys() <= {"key", "account"}:
        raise ValueError("takes key and account, as in {key: env:OPENAI_API_KEY, account: NAME}")
    account = value.get("account", "")
    if "account" in value and not (isinstance(account, str) and _ACCOUNT.fullmatch(account)):
        raise ValueError("account is no name; use letters, digits and -_.:@, beginning with a letter or digit")
    return ApiKey(parse_secret(value["key"]), str(account))


def parse_secret(value: object) -> SecretRef:
    """`env:VAR` or `file:PATH`. Raises ValueError, without the value: it may be a key."""
    if not isinstance(value, str):
        raise ValueError("a key is named as env:VARIABLE or file:PATH")
    kind, colon, name = value.partition(":")
    if colon and kind == "env":
        if not _VARIABLE.fullmatch(name):
            raise ValueError("after 'env:' comes the name of an environment variable, as in env:OPENAI_API_KEY")
        return SecretRef("env", name)
    if colon and kind == "file":
        if not name or not name.isprintable():
            raise ValueError("after 'file:' comes a path, as in file:/run/secrets/openai")
        return SecretRef("file", str(name))
    raise ValueError(
        "secrets do not belong into this file; put the key into an environment variable or a file of its own"
        " and write env:VARIABLE or file:PATH"
    )


def new_key() -> str:
    """A fresh gateway key with 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """What is kept of a gateway key: `sha256:` and 64 hex digits. The keys are random and long, so a slow,
    salted hash, made for passwords that people choose, would only cost time on every request."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def parse_hash(value: object) -> str:
    """A hash as `crossfade keys new` prints it. Raises ValueError, without the value: it may be a key."""
    if isinstance(value, str) and _HASH.fullmatch(value):
        return str(value)
    raise ValueError("not a hash: it is 'sha256:' and 64 hex digits; make one with `crossfade keys new` or `keys hash`")


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
