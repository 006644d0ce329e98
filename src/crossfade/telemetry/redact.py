"""Masks what looks like a credential, at the last moment before text leaves the process.

A net below the rule that nothing secret is handed to a log in the first place. Request ids (`cf-0a1b2c3d4e-1f`) pass.
"""

from __future__ import annotations

import re

MASK = "***"

_SECRETS = re.compile(
    r"""
      (?P<prefix>
          (?<![A-Za-z0-9])sk-(?=[A-Za-z0-9_-]{4})
        | (?<![A-Za-z0-9])(?:gsk_|csk-|xai-|hf_|nvapi-|pplx-|r8_|tgp_|glpat-|ghp_|sk_)(?=[A-Za-z0-9_-]{16})
        | (?<![A-Za-z0-9])AIza(?=[A-Za-z0-9_-]{8})
        | (?<![A-Za-z0-9])ya29\.(?=[A-Za-z0-9_-]{8})
        | (?<![A-Za-z0-9])(?:AKIA|ASIA)(?=[A-Z0-9]{16})
        | (?<![A-Za-z0-9])eyJ(?=[A-Za-z0-9_-]{10,}\.)
        | (?<![A-Za-z0-9_-])cf-(?=[A-Za-z0-9_-]{43})
      )[A-Za-z0-9_.-]+
    | (?P<bedrock>(?<![A-Za-z0-9])(?:ABSK|bedrock-api-key-))[A-Za-z0-9+/=_-]{16,}
    | (?P<scheme>\b(?i:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}
    | (?P<header>\b(?i:(?:x-)?(?:goog-)?api[-_]?key)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&}]+
    | (?P<parameter>[?&](?i:key|token|access_token|sig|signature)=)[^\s"'\\&]+
    | (?P<address>://)[^\s/@"'\\]+@
    """,
    re.VERBOSE,
)


def redact(text: str) -> str:
    """`text` with everything that looks like a key, a token or a password in an address masked."""
    return _SECRETS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    kept = match.group(match.lastgroup or 0)
    return f"{kept}{MASK}@" if match.lastgroup == "address" else kept + MASK
