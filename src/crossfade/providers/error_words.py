"""The words by which providers name their errors, as tables. Which of them is asked when is decided in `errors.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from crossfade.core.failure import FailureReason

_R = FailureReason

CODES: Final[Mapping[str, FailureReason]] = MappingProxyType(
    {
        # money and quota: waiting does not help
        "insufficient_quota": _R.QUOTA_EXHAUSTED,
        "credit_balance_exhausted": _R.QUOTA_EXHAUSTED,
        "billing_hard_limit_reached": _R.QUOTA_EXHAUSTED,
        "billing_not_active": _R.QUOTA_EXHAUSTED,
        "billing_error": _R.QUOTA_EXHAUSTED,
        "enforced_spend_limit_reached": _R.QUOTA_EXHAUSTED,
        "insufficient_balance": _R.QUOTA_EXHAUSTED,
        "insufficient_credits": _R.QUOTA_EXHAUSTED,
        "payment_required": _R.QUOTA_EXHAUSTED,
        "quota_exceeded": _R.QUOTA_EXHAUSTED,
        # the prompt is larger than the model's window
        "context_length_exceeded": _R.CONTEXT_OVERFLOW,
        "context_window_exceeded": _R.CONTEXT_OVERFLOW,
        "model_context_window_exceeded": _R.CONTEXT_OVERFLOW,
        "exceed_context_size_error": _R.CONTEXT_OVERFLOW,
        "too_many_prompt_tokens": _R.CONTEXT_OVERFLOW,
        "too_many_tokens": _R.CONTEXT_OVERFLOW,
        "string_above_max_length": _R.CONTEXT_OVERFLOW,
        # the model is not there, or not for this key
        "model_not_found": _R.MODEL_UNAVAILABLE,
        "model_not_available": _R.MODEL_UNAVAILABLE,
        "model_deprecated": _R.MODEL_UNAVAILABLE,
        "model_decommissioned": _R.MODEL_UNAVAILABLE,
        "model_terms_required": _R.MODEL_UNAVAILABLE,
        "invalid_model": _R.MODEL_UNAVAILABLE,
        "1500": _R.MODEL_UNAVAILABLE,
        "deploymentnotfound": _R.MODEL_UNAVAILABLE,
        "unknown_model": _R.MODEL_UNAVAILABLE,
        # the credential
        "invalid_api_key": _R.AUTH_ERROR,
        "api_key_invalid": _R.AUTH_ERROR,
        "incorrect_api_key": _R.AUTH_ERROR,
        "account_deactivated": _R.AUTH_ERROR,
        "authentication_error": _R.AUTH_ERROR,
        "permission_error": _R.AUTH_ERROR,
        "permission_denied": _R.AUTH_ERROR,
        "unauthenticated": _R.AUTH_ERROR,
        "unsupported_country_region_territory": _R.AUTH_ERROR,
        # what the model wrote is broken: asking again helps
        "tool_use_failed": _R.INVALID_TOOL_CALL,
        "invalid_tool_generation": _R.INVALID_TOOL_CALL,
        "json_validate_failed": _R.INVALID_JSON,
        # policy
        "content_filter": _R.CONTENT_FILTER,
        "content_policy_violation": _R.CONTENT_FILTER,
        "responsibleaipolicyviolation": _R.CONTENT_FILTER,
        "moderation": _R.CONTENT_FILTER,
        "moderation_blocked": _R.CONTENT_FILTER,
        "invalid_prompt": _R.CONTENT_FILTER,
        "bio_policy": _R.CONTENT_FILTER,
        "misalignment_policy_violation": _R.CONTENT_FILTER,
        "image_content_policy_violation": _R.CONTENT_FILTER,
        # load
        "overloaded_error": _R.OVERLOADED,
        "server_is_overloaded": _R.OVERLOADED,
        "service_unavailable_error": _R.OVERLOADED,
        "service_unavailable": _R.OVERLOADED,
        "engine_overloaded": _R.OVERLOADED,
        "unavailable": _R.OVERLOADED,
        "3505": _R.OVERLOADED,  # Mistral: service tier capacity exceeded
        "rate_limit_exceeded": _R.RATE_LIMIT,
        "rate_limit_error": _R.RATE_LIMIT,
        "rate_limit_reached": _R.RATE_LIMIT,
        "ratelimitreached": _R.RATE_LIMIT,
        "rate_limited": _R.RATE_LIMIT,
        "too_many_requests": _R.RATE_LIMIT,
        "slow_down": _R.RATE_LIMIT,
        "1300": _R.RATE_LIMIT,
        "resource_exhausted": _R.RATE_LIMIT,
        # faults of the server
        "server_error": _R.SERVER_ERROR,
        "api_error": _R.SERVER_ERROR,
        "internal_error": _R.SERVER_ERROR,
        "internal_server_error": _R.SERVER_ERROR,
        "timeout_error": _R.SERVER_ERROR,
        "vector_store_timeout": _R.SERVER_ERROR,
    }
)
"""Codes and types, in lower case, that say what happened whatever the status (but see `FIT_5XX`)."""

VAGUE: Final = frozenset({_R.AUTH_ERROR, _R.RATE_LIMIT, _R.SERVER_ERROR})
"""Reasons whose codes are worn loosely: a 400 `api_error` may be a full window, a 429 of tokens may never fit."""

GENERIC_TYPES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "invalid_argument": 400,
        "failed_precondition": 400,
        "out_of_range": 400,
        "badrequesterror": 400,
        "bad request": 400,
        "bad_request": 400,
        "invalid-argument": 400,
        "validation_error": 422,
        "unauthorized": 401,
        "forbidden": 403,
        "not_found": 404,
        "not_found_error": 404,
        "notfounderror": 404,
        "request_too_large": 413,
        "cancelled": 499,
        "internal": 500,
        "internalservererror": 500,
        "unimplemented": 501,
        "aborted": 409,
        "deadline_exceeded": 504,
        # of the Responses API, about the caller's images
        "invalid_image": 400,
        "invalid_image_format": 400,
        "invalid_base64_image": 400,
        "invalid_image_url": 400,
        "invalid_image_mode": 400,
        "image_too_large": 400,
        "image_too_small": 400,
        "image_parse_error": 400,
        "image_file_too_large": 400,
        "image_file_not_found": 400,
        "unsupported_image_media_type": 400,
        "empty_image_file": 400,
        "failed_to_download_image": 400,
    }
)
"""Codes and types that only say which status the error would have had: read where it came inside a 200."""

CONTEXT: Final = (
    "maximum context length",
    "context window",
    "context length",
    "context size",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "total length of all messages is too long",
    "exceeds the maximum number of tokens",
    "input tokens exceeded",
    "too many tokens: size limit",
    "exceeds the available context",
    "`inputs` tokens + `max_new_tokens` must be",
    "maximum input length",
    "reduce the length of the messages",
)
TOO_LARGE: Final = ("request too large",)
MODEL: Final = (
    "model not found",
    "model_not_found",
    "is not a valid model id",
    "invalid model",
    "unknown model",
    "specified model not found",
    "the supported api model names are",
    "model identifier is invalid",
    "model not exist",
    "model does not exist",
    "model has been deprecated",
    "model has been decommissioned",
    "model is not supported",
    "model is not available",
    "model is no longer available",
    "no such model",
    "no available channel for model",
    "on-demand throughput isn",
)
MODEL_SHAPE: Final = re.compile(
    r"\bmodels? [`'\"]?[\w./:@-]+[`'\"]? (?:does not exist|not found|is not found|has been d|was not found|is not supp)"
)
AUTH: Final = (
    "incorrect api key",
    "invalid api key",
    "api key not valid",
    "api key is invalid",
    "api key is not valid",
    "invalid x-api-key",
    "missing authentication",
    "api key expired",
    "api_key_invalid",
    "security token included in the request",
)
QUOTA: Final = (
    "insufficient balance",
    "insufficient credit",
    "insufficient quota",
    "credit balance is too low",
    "spend limit",
    "spending limit",
    "requires more credits",
    "exceeded your current quota, please check your plan",
    "check your billing",
    "billing hard limit",
)
CAPACITY: Final = (
    "capacity exceeded",
    "engine overloaded",
    "model is overloaded",
    "currently overloaded",
    "experiencing high demand",
    "at capacity",
    "server is busy",
)
FILTER: Final = ("content management policy", "content policy", "flagged by moderation", "requires moderation")

FIT_5XX: Final = frozenset({_R.OVERLOADED, _R.RATE_LIMIT, _R.QUOTA_EXHAUSTED, _R.INVALID_TOOL_CALL, _R.INVALID_JSON})
"""What a code may make of a 5xx. Never the caller's fault, and no long ejection of a model or a key."""

BY_STATUS: Final[Mapping[int, FailureReason]] = MappingProxyType(
    {
        401: _R.AUTH_ERROR,
        402: _R.QUOTA_EXHAUSTED,
        403: _R.AUTH_ERROR,
        404: _R.MODEL_UNAVAILABLE,
        408: _R.SERVER_ERROR,
        409: _R.SERVER_ERROR,
        410: _R.MODEL_UNAVAILABLE,
        424: _R.SERVER_ERROR,
        425: _R.SERVER_ERROR,
        429: _R.RATE_LIMIT,
        498: _R.AUTH_ERROR,
        499: _R.SERVER_ERROR,
        503: _R.OVERLOADED,
        529: _R.OVERLOADED,
    }
)
