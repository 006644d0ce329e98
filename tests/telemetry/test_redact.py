"""What looks like a key is masked, and nothing else is."""

from __future__ import annotations

import pytest

from crossfade.config.secrets import new_key
from crossfade.telemetry.redact import redact


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-abcd1234 here", "key sk-*** here"),
        ("sk-ant-api03-abc_DEF-123", "sk-***"),
        ("'sk-proj-abcdefgh'", "'sk-***'"),
        ("?key=AIzaSyA1234567890abcdefghijk", "?key=***"),
        ("AIzaSyA1234567890abcdefghijk", "AIza***"),
        ("gsk_0123456789abcdef0123", "gsk_***"),
        ("AKIA0123456789ABCDEF", "AKIA***"),
        ("key ABSKQmVkcm9ja0FQSUtleS0+/abc= here", "key ABSK*** here"),
        ("bedrock-api-key-YmVkcm9jay5hbWF6b25hd3M", "bedrock-api-key-***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJ***"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer ***"),
        ('{"authorization": "bearer abc.def-ghi_jkl"}', '{"authorization": "bearer ***"}'),
        ("x-api-key: 0123456789abcdef", "x-api-key: ***"),
        ('\\"api_key\\": \\"0123456789\\"', '\\"api_key\\": \\"***\\"'),
        ("http://user:secret@proxy:3128", "http://***@proxy:3128"),
        ("https://host/path?a=1&token=abc&b=2", "https://host/path?a=1&token=***&b=2"),
    ],
)
def test_secrets_are_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize("number", range(20))
def test_gateway_keys_are_masked(number: int) -> None:
    key = new_key()
    assert redact(f"{number} key={key}.") == f"{number} key=cf-***"


@pytest.mark.parametrize(
    "text",
    [
        "fallback route=chat from=openai/gpt-5.4 to=anthropic/claude-opus-5 request=cf-0a1b2c3d4e-1f",
        "request=cf-0a1b2c3d4e-1ffffffffff",
        "task-force disk-usage risk-free_0123456789abcdef",
        "http://127.0.0.1:4000/v1 a@b.example",
        "api_keys: [env:OPENAI_API_KEY]",
        "openai/gpt-oss-120b google/gemini-3.8-flash",
        "bedrock-api-key-1 and bedrock/amazon.nova-pro-v1:0",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert redact(text) == text
