"""Why a setting of LiteLLM's has no counterpart: one sentence each, for the settings that configurations have.

Knows names only. A setting that is not here is unknown, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from crossfade.config.problems import Path

_LIMITS: Final = "crossfade keeps no rate limits of its own yet; it heeds a provider's 429 and leaves the target out"
_BALANCE: Final = "pools are given a weight for each member, and a policy (docs/policies/pools.md)"
_WEIGHT: Final = "says how deployments of one name share its requests, and here nothing goes by it"
_BREAKER: Final = "crossfade's breakers have thresholds of their own (docs/policies/health.md)"
_RETRY: Final = "crossfade asks the same target again only where that helps, and then the next (docs/policies/retry.md)"
_COST: Final = "prices come from crossfade's catalogue"
_CACHE: Final = "crossfade has no cache"
_LOGS: Final = "crossfade sends no logs to other services; its journal has every request (docs/policies/journal.md)"
_DATABASE: Final = "crossfade needs no database; keys and models kept there are not in this file"
_SHARED: Final = "crossfade shares no state between machines yet"
_TAGS: Final = (
    "deployments are not chosen by tags or teams; write it as `rules` of the route (docs/policies/routing.md)"
)
_AWS: Final = "providers at AWS are not taken over from LiteLLM's file; write them by hand"
_HEADERS: Final = "headers of its own for a provider are not supported yet"
_ALERTS: Final = "alerts are not supported yet; every fallback is one WARNING line on standard error"
_USERS: Final = "users, teams and single sign-on are not supported; applications have gateway keys"
_PARAMETERS: Final = "crossfade translates parameters between dialects; what one target must not get is its `drop` list"
_HEALTH: Final = "crossfade judges targets by their real traffic"

_PARAMS: Final = {
    **dict.fromkeys(("rpm", "tpm", "itpm", "otpm"), _LIMITS),
    "max_parallel_requests": "is no whole number of calls from 1 up",
    **dict.fromkeys(("weight", "order"), _WEIGHT),
    **dict.fromkeys(("default_api_key_rpm_limit", "default_api_key_tpm_limit"), _LIMITS),
    **dict.fromkeys(("max_retries", "num_retries", "retry_policy"), _RETRY),
    **dict.fromkeys(("cooldown_time", "allowed_fails"), _BREAKER),
    **dict.fromkeys(("input_cost_per_token", "output_cost_per_token", "input_cost_per_second"), _COST),
    **dict.fromkeys(("max_budget", "budget_duration"), "crossfade keeps no budgets yet"),
    **dict.fromkeys(("extra_headers", "headers", "default_headers"), _HEADERS),
    **dict.fromkeys(("tags", "tag_regex", "region_name"), _TAGS),
    **dict.fromkeys(("drop_params", "modify_params", "allowed_openai_params"), _PARAMETERS),
    **dict.fromkeys(("aws_region_name", "aws_access_key_id", "aws_secret_access_key", "aws_role_name"), _AWS),
    "organization": "the header that names an organization is not sent; a key made in the organization does the same",
    "api_version": "the output calls Azure by its v1 API, which has no dated versions (the deployment is the model)",
    "azure_ad_token": "crossfade signs in to Azure with a key only",
    "tenant_id": "crossfade signs in to Azure with a key only",
    "client_id": "crossfade signs in to Azure with a key only",
    "client_secret": "crossfade signs in to Azure with a key only",
    "mock_response": "crossfade makes no answers up; `crossfade simulate` is a provider for tests",
    "ssl_verify": "certificates are always verified",
}
_ROUTER: Final = {
    **dict.fromkeys(("routing_strategy", "routing_strategy_args", "routing_groups", "weights"), _BALANCE),
    **dict.fromkeys(("num_retries", "max_retries", "retry_after", "retry_policy", "model_group_retry_policy"), _RETRY),
    **dict.fromkeys(("allowed_fails", "allowed_fails_policy", "cooldown_time", "disable_cooldowns"), _BREAKER),
    **dict.fromkeys(("redis_host", "redis_port", "redis_password", "redis_url", "redis_db"), _SHARED),
    **dict.fromkeys(("cache_responses", "cache_kwargs", "caching_groups", "client_ttl"), _CACHE),
    **dict.fromkeys(("enable_tag_filtering", "tag_filtering_match_any"), _TAGS),
    **dict.fromkeys(("default_max_parallel_requests", "provider_budget_config"), _LIMITS),
    **dict.fromkeys(("alerting_config",), _ALERTS),
    "enable_pre_call_checks": "crossfade always passes over a target whose window is too small for the request",
    "optional_pre_call_checks": "crossfade makes its own checks before each call",
    "max_fallbacks": "a crossfade chain is asked to its end, within the route's deadline",
    "set_verbose": "set log.level: debug in the output to see more",
    "debug_level": "set log.level in the output to see more",
    "default_litellm_params": "give parameters per target, under `set`",
}
_LITELLM: Final = {
    **dict.fromkeys(("callbacks", "success_callback", "failure_callback", "service_callbacks"), _LOGS),
    **dict.fromkeys(("turn_off_message_logging", "redact_user_api_key_info", "langfuse_default_tags"), _LOGS),
    **dict.fromkeys(("cache", "cache_params", "enable_redis_auth_cache"), _CACHE),
    **dict.fromkeys(("drop_params", "modify_params"), _PARAMETERS),
    **dict.fromkeys(("num_retries", "num_retries_per_request"), _RETRY),
    **dict.fromkeys(("allowed_fails", "cooldown_time"), _BREAKER),
    **dict.fromkeys(("max_budget", "budget_duration", "max_internal_user_budget"), "crossfade keeps no budgets yet"),
    **dict.fromkeys(("default_team_settings", "default_internal_user_params", "key_generation_settings"), _USERS),
    "ssl_verify": "certificates are always verified",
    "guardrails": "crossfade checks answers by `validate` of a route only",
    "force_ipv4": "crossfade tries all addresses of a name at once",
}
_GENERAL: Final = {
    **dict.fromkeys(("database_url", "database_connection_pool_limit", "store_model_in_db"), _DATABASE),
    **dict.fromkeys(("database_connection_timeout", "database_type", "disable_spend_logs"), _DATABASE),
    **dict.fromkeys(("allow_requests_on_db_unavailable", "proxy_batch_write_at", "salt_key"), _DATABASE),
    **dict.fromkeys(("store_prompts_in_spend_logs", "maximum_spend_logs_retention_period"), _DATABASE),
    **dict.fromkeys(
        ("alerting", "alerting_threshold", "alert_types", "alerting_args", "alert_to_webhook_url"), _ALERTS
    ),
    **dict.fromkeys(("max_parallel_requests", "global_max_parallel_requests"), _LIMITS),
    **dict.fromkeys(("background_health_checks", "health_check_interval", "health_check_details"), _HEALTH),
    **dict.fromkeys(("enable_jwt_auth", "litellm_jwtauth", "custom_auth", "ui_access_mode", "custom_sso"), _USERS),
    **dict.fromkeys(("use_redis_transaction_buffer", "use_shared_health_check"), _SHARED),
    "completion_model": "the request names its model; a gateway key can be bound to a route (gateway_keys[].route)",
    "pass_through_endpoints": "crossfade passes on OpenAI's other endpoints only (`passthrough`)",
    "forward_client_headers_to_llm_api": "request headers go upstream by a fixed list",
    "key_management_system": "keys are named as env:VARIABLE or file:PATH",
}
_INFO: Final = {
    **dict.fromkeys(("input_cost_per_token", "output_cost_per_token"), _COST),
    **dict.fromkeys(("access_groups", "team_id", "tier", "supported_environments"), _TAGS),
    "base_model": "crossfade's catalogue knows models by their own ids; give the window under the provider's `models`",
    "max_tokens": "crossfade knows a model's input window (max_input_tokens) only",
    "max_output_tokens": "crossfade knows a model's input window (max_input_tokens) only",
    "id": "crossfade calls a target by provider/model",
    "mode": "the endpoint that is asked says what a request is",
}
_TOP: Final = {
    "callback_settings": _LOGS,
    "guardrails": "crossfade checks answers by `validate` of a route only",
    "mcp_servers": "crossfade serves models, and no tools",
    "include": "other files are not read; import each of them, or join them first",
    "credential_list": "holds no credential that a model names",
    "credential_info": "says something to people only",
}
REASONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "litellm_params": _PARAMS,
        "model_info": _INFO,
        "router_settings": _ROUTER,
        "litellm_settings": _LITELLM,
        "general_settings": _GENERAL,
        "": _TOP,
    }
)
"""By section, then by name."""


def reason_for(path: Path) -> str:
    """Why nothing of the setting at `path` was carried over."""
    names = [part for part in path if isinstance(part, str)]
    section = names[-2] if len(names) > 1 else ""
    known = REASONS.get(section, _TOP if path[0] == "credential_list" else {})
    if section == "litellm_params" and names[-1] not in known:
        return "not known to the import; a parameter of requests can be given under `set` of the target"
    return known.get(names[-1], "not known to the import, and without a counterpart that it knows of")
