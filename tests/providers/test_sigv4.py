"""Signature Version 4 against AWS's own published vectors, and against what botocore signs (`sigv4_vectors.json` says
where both are from)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossfade.core.credential import AwsKeys
from crossfade.providers.sigv4 import signed

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "sigv4_vectors.json").read_text())
PUBLISHED_KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
PUBLISHED_TIME = 1_440_938_160.0  # 2015-08-30T12:36:00Z


@pytest.mark.parametrize("vector", VECTORS["aws"], ids=lambda vector: vector["name"])
def test_the_vectors_that_aws_publishes(vector: dict[str, Any]) -> None:
    sent = signed(
        AwsKeys(*PUBLISHED_KEYS, vector["session_token"]),
        region="us-east-1",
        service="service",
        host="example.amazonaws.com",
        path=vector["path"],
        headers=[(name, value) for name, value in vector["headers"]],
        body=vector["body"].encode(),
        now=PUBLISHED_TIME,
        method=vector["method"],
    )
    names, signature = vector["signed_headers"], vector["signature"]
    assert dict(sent)["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,"
        f" SignedHeaders={names}, Signature={signature}"
    )
    assert dict(sent)["x-amz-date"] == "20150830T123600Z"
    assert dict(sent).get("x-amz-security-token") == vector["session_token"]


def of_botocore(vector: dict[str, Any], **changes: Any) -> dict[str, str]:
    keys = AwsKeys(vector["access_key_id"], vector["secret_access_key"], vector["session_token"])
    given: dict[str, Any] = {
        "region": vector["region"],
        "service": "bedrock",
        "host": vector["host"],
        "path": vector["path"],
        "headers": [(name, value) for name, value in vector["headers"]],
        "body": vector["body"].encode(),
        "now": float(vector["now"]),
        **changes,
    }
    return dict(signed(keys, **given))


@pytest.mark.parametrize("number", range(len(VECTORS["botocore"])))
def test_what_botocore_signs(number: int) -> None:
    vector = VECTORS["botocore"][number]
    sent = of_botocore(vector)
    assert sent["authorization"] == vector["authorization"]
    assert sent["x-amz-date"] == vector["date"]
    assert sent.get("x-amz-security-token") == vector["session_token"]


def test_the_vectors_have_tokens_blanks_and_paths_that_are_encoded_twice() -> None:
    vectors = VECTORS["botocore"]
    assert len(vectors) == 60 and len(VECTORS["aws"]) == 16
    assert {bool(vector["session_token"]) for vector in vectors} == {True, False}
    assert any("%3A" in vector["path"] for vector in vectors) and any("%2F" in vector["path"] for vector in vectors)
    assert any("//" in vector["path"] for vector in vectors) and any("/../" in vector["path"] for vector in vectors)
    assert any("?" in vector["path"] for vector in vectors)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/model/other/converse"},
        {"body": b"{}"},
        {"host": "example.com"},
        {"region": "eu-west-1"},
        {"now": 1_600_000_000.0},
        {"headers": [("content-type", "text/plain")]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_changes_the_signature(change: dict[str, Any]) -> None:
    vector = VECTORS["botocore"][0]
    assert of_botocore(vector, **change)["authorization"] != vector["authorization"]


def test_no_secret_is_in_what_is_sent() -> None:
    for vector in VECTORS["botocore"]:
        assert all(vector["secret_access_key"] not in value for value in of_botocore(vector).values())
