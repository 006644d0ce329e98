"""Vendors as rows of data: where each API is, how it authenticates, and how its streams end.

A row says only what was seen or is documented; what is unknown keeps the careful default. Rows with an empty
`base_url` are of vendors whose address depends on the account: configuration has to give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from crossfade.core.target import LimitHeaders, StreamEnd, Vendor

_LONG_IDLE: Final = 55.0
"""Seconds an idle connection may be used again where the front end is known to keep it for minutes."""

_BEDROCK: Final = ("bedrock-runtime.*.amazonaws.com", "bedrock-runtime-fips.*.amazonaws.com")

_VERTEX: Final = ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com")

_DAY: Final = 86_400.0


def _limit(
    name: str, left: str, most: str = "", reset: str = "", *, window: float = 60.0, reset_in_ms: bool = False
) -> LimitHeaders:
    counts: Literal["requests", "tokens", "output"] = "tokens"
    if name.startswith("requests"):
        counts = "requests"
    elif name.startswith("output"):
        counts = "output"
    return LimitHeaders(
        name=name, counts=counts, left=left, most=most, reset=reset, window=window, reset_in_ms=reset_in_ms
    )


def _plain(*names: str, has_reset: bool = True, reset_in_ms: bool = False) -> tuple[LimitHeaders, ...]:
    """OpenAI's headers, which most others have too."""
    return tuple(
        _limit(
            name,
            f"x-ratelimit-remaining-{name}",
            f"x-ratelimit-limit-{name}",
            f"x-ratelimit-reset-{name}" if has_reset else "",
            reset_in_ms=reset_in_ms,
        )
        for name in names
    )


def _per(kind: str, called: str, unit: str, window: float, *, has_reset: bool = False) -> LimitHeaders:
    """A header that names its window, such as `x-ratelimit-remaining-req-minute`."""
    return _limit(
        f"{kind} per {unit}",
        f"x-ratelimit-remaining-{called}-{unit}",
        f"x-ratelimit-limit-{called}-{unit}",
        f"x-ratelimit-reset-{called}-{unit}" if has_reset else "",
        window=window,
    )


_WINDOWS: Final = (("minute", 60.0), ("hour", 3600.0), ("day", _DAY))
_BY_WINDOW: Final = tuple(
    _per(kind, kind, unit, window, has_reset=True) for kind in ("requests", "tokens") for unit, window in _WINDOWS
)

_ROWS: Final = (
    Vendor(
        name="openai",
        dialect="openai",
        base_url="https://api.openai.com/v1",
        env=("OPENAI_API_KEY",),
        assembles=True,
        max_tokens_field="max_completion_tokens",
        asked_whole=("gpt-4o-search", "gpt-4o-mini-search", "gpt-5-search"),  # the places of their citations
        model_prefixes=("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-"),
        keep_idle=_LONG_IDLE,
        limits=_plain("requests", "tokens"),
    ),
    Vendor(
        name="anthropic",
        dialect="anthropic",
        base_url="https://api.anthropic.com/v1",
        env=("ANTHROPIC_API_KEY",),
        auth="x-api-key",
        stream_end=StreamEnd.FINISH_AND_MARKER,
        assembles=True,
        model_prefixes=("claude-",),
        keep_idle=_LONG_IDLE,
        limits=tuple(
            _limit(
                name.replace("-", " "),
                f"anthropic-ratelimit-{name}-remaining",
                f"anthropic-ratelimit-{name}-limit",
                f"anthropic-ratelimit-{name}-reset",
            )
            for name in ("requests", "tokens", "input-tokens", "output-tokens")
        ),
    ),
    Vendor(
        name="gemini",
        dialect="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        auth="x-goog-api-key",
        assembles=True,
        model_prefixes=("gemini-", "gemma-"),
        keep_idle=_LONG_IDLE,
    ),
    Vendor(
        name="azure",
        dialect="openai",
        base_url="",  # https://{resource}.openai.azure.com/openai/v1, or without /v1 and with an api_version
        hosts=("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
        env=("AZURE_OPENAI_API_KEY",),
        auth="api-key",
        dated_versions=True,  # and nothing is assembled: content_filter_results would be lost
        max_tokens_field="max_completion_tokens",
        limits=_plain("requests", "tokens", reset_in_ms=True),
    ),
    Vendor(
        name="mistral",
        dialect="openai",
        base_url="https://api.mistral.ai/v1",
        env=("MISTRAL_API_KEY",),
        assembles=True,
        prefill=True,
        marks_prefix=True,
        include_usage=False,  # its finish chunk has the usage; older versions refuse the option
        call_id_length=9,
        model_prefixes=(
            "mistral-",
            "ministral-",
            "magistral-",
            "codestral-",
            "devstral-",
            "pixtral-",
            "voxtral-",
            "open-mistral-",
            "open-mixtral-",
        ),
        limits=(
            _per("requests", "req", "10-second", 10.0),
            _per("requests", "req", "minute", 60.0),
            _per("tokens", "tokens", "minute", 60.0),
            _per("tokens", "tokens", "month", 30 * _DAY),
            _limit("tokens", "ratelimitbysize-remaining", "ratelimitbysize-limit", "ratelimitbysize-reset"),
        ),
    ),
    Vendor(
        name="groq",
        dialect="openai",
        base_url="https://api.groq.com/openai/v1",
        env=("GROQ_API_KEY",),
        assembles=True,
        asked_whole=("groq/compound", "compound-"),  # what their tools found
        prefill=True,
        max_tokens_field="max_completion_tokens",
        keep_idle=_LONG_IDLE,
        limits=_plain("requests", "tokens"),
    ),
    Vendor(
        name="deepseek",
        dialect="openai",
        base_url="https://api.deepseek.com",
        env=("DEEPSEEK_API_KEY",),
        assembles=True,
        marks_prefix=True,  # at /beta, where it takes a prefill
        model_prefixes=("deepseek-",),
    ),
    Vendor(
        name="xai",
        dialect="openai",
        base_url="https://api.x.ai/v1",
        env=("XAI_API_KEY",),
        assembles=True,
        max_tokens_field="max_completion_tokens",
        model_prefixes=("grok-",),
        completion_excludes_reasoning=True,
        limits=_plain("requests", "tokens", has_reset=False),
    ),
    Vendor(
        name="openrouter",
        dialect="openai",
        base_url="https://openrouter.ai/api/v1",
        env=("OPENROUTER_API_KEY",),
        keep_idle=_LONG_IDLE,
        takes_top_k=True,
        limits=(_limit("requests", "x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset"),),
    ),
    Vendor(
        name="together",
        dialect="openai",
        base_url="https://api.together.xyz/v1",
        hosts=("api.together.ai",),
        env=("TOGETHER_API_KEY", "TOGETHERAI_API_KEY"),
        takes_top_k=True,
        limits=(
            _limit("requests", "x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset"),
            _limit("tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset"),
        ),
    ),
    Vendor(
        name="fireworks",
        dialect="openai",
        base_url="https://api.fireworks.ai/inference/v1",
        env=("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        takes_top_k=True,
        limits=(
            *_plain("requests", has_reset=False),
            _limit("tokens of input", "x-ratelimit-remaining-tokens-prompt", "x-ratelimit-limit-tokens-prompt"),
            _limit("output tokens", "x-ratelimit-remaining-tokens-generated", "x-ratelimit-limit-tokens-generated"),
        ),
    ),
    Vendor(
        name="cerebras",
        dialect="openai",
        base_url="https://api.cerebras.ai/v1",
        env=("CEREBRAS_API_KEY",),
        max_tokens_field="max_completion_tokens",
        limits=_BY_WINDOW,
    ),
    Vendor(
        name="perplexity",
        dialect="openai",
        base_url="https://api.perplexity.ai",
        env=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        embeddings_path="/v1/embeddings",
        include_usage=False,  # every chunk has it
        model_prefixes=("sonar",),
    ),
    Vendor(
        name="cohere",
        dialect="cohere",
        base_url="https://api.cohere.com/v2",
        hosts=("api.cohere.ai",),
        env=("COHERE_API_KEY", "CO_API_KEY"),
        model_prefixes=("command-", "c4ai-"),
        limits=(_limit("requests", "x-trial-endpoint-call-remaining", "x-trial-endpoint-call-limit"),),
    ),
    Vendor(
        name="moonshot",
        dialect="openai",
        base_url="https://api.moonshot.ai/v1",
        env=("MOONSHOT_API_KEY",),
        model_prefixes=("kimi-", "moonshot-"),
    ),
    Vendor(
        name="zai",
        dialect="openai",
        base_url="https://api.z.ai/api/paas/v4",
        env=("ZAI_API_KEY", "Z_AI_API_KEY"),
        model_prefixes=("glm-",),
    ),
    Vendor(
        name="huggingface",
        dialect="openai",
        base_url="https://router.huggingface.co/v1",
        env=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        limits=_BY_WINDOW,
    ),
    Vendor(
        name="vercel-gateway",
        dialect="openai",
        base_url="https://ai-gateway.vercel.sh/v1",
        env=("AI_GATEWAY_API_KEY",),
    ),
    Vendor(
        name="venice",
        dialect="openai",
        base_url="https://api.venice.ai/api/v1",
        env=("VENICE_API_KEY",),
    ),
    Vendor(
        name="doubleword",
        dialect="openai",
        base_url="https://api.doubleword.ai/v1",
        env=("DOUBLEWORD_API_KEY",),
    ),
    Vendor(
        name="crusoe",
        dialect="openai",
        base_url="https://api.inference.crusoecloud.com/v1",
        env=("CRUSOE_API_KEY",),
    ),
    Vendor(
        name="bedrock",
        dialect="bedrock",
        base_url="",  # https://bedrock-runtime.{region}.amazonaws.com
        hosts=_BEDROCK,
        env=("AWS_BEARER_TOKEN_BEDROCK",),
        assembles=True,
        model_prefixes=("amazon.nova", "us.amazon.nova", "eu.amazon.nova", "apac.amazon.nova", "global.amazon.nova"),
    ),
    Vendor(
        name="bedrock-claude",
        dialect="anthropic",
        base_url="",  # as Bedrock's
        hosts=_BEDROCK,
        env=("AWS_BEARER_TOKEN_BEDROCK",),
        stream_end=StreamEnd.FINISH_AND_MARKER,
        assembles=True,
        via="invoke_model",
    ),
    Vendor(
        name="bedrock-mantle",
        dialect="openai",
        base_url="",  # https://bedrock-mantle.{region}.api.aws/v1
        hosts=("bedrock-mantle.*.api.aws",),
        env=("AWS_BEARER_TOKEN_BEDROCK",),
        max_tokens_field="max_completion_tokens",
    ),
    Vendor(
        name="vertex",
        dialect="gemini",
        base_url="",  # https://{location}-aiplatform.googleapis.com/v1/projects/{project}/locations/{location}
        hosts=_VERTEX,
        env=("GOOGLE_OAUTH_ACCESS_TOKEN",),
        assembles=True,
        via="vertex",
    ),
    Vendor(
        name="vertex-claude",
        dialect="anthropic",
        base_url="",  # as Vertex's
        hosts=_VERTEX,
        env=("GOOGLE_OAUTH_ACCESS_TOKEN",),
        stream_end=StreamEnd.FINISH_AND_MARKER,
        assembles=True,
        via="raw_predict",
    ),
    Vendor(
        name="databricks",
        dialect="openai",
        base_url="",  # https://{workspace}/serving-endpoints
        hosts=("*.azuredatabricks.net", "*.cloud.databricks.com", "*.gcp.databricks.com"),
        env=("DATABRICKS_TOKEN",),
        include_usage=False,  # it comes without asking, in several chunks
    ),
    Vendor(
        name="snowflake",
        dialect="openai",
        base_url="",  # https://{account}.snowflakecomputing.com/api/v2/cortex/v1
        hosts=("*.snowflakecomputing.com",),
        env=("SNOWFLAKE_TOKEN",),
        stream_end=StreamEnd.MARKER,  # no finish reason at all
        max_tokens_field="max_completion_tokens",
    ),
    Vendor(
        name="cloudflare",
        dialect="openai",
        base_url="",  # https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1
        hosts=("api.cloudflare.com",),
        env=("CLOUDFLARE_API_TOKEN",),
    ),
    Vendor(
        name="ollama",
        dialect="openai",
        base_url="http://127.0.0.1:11434/v1",
        hosts=("ollama.com",),  # the same models, with a key
        auth="none",
    ),
    Vendor(
        name="ollama-native",
        dialect="ollama",
        base_url="http://127.0.0.1:11434/api",  # or https://ollama.com/api, with a key
        auth="none",
    ),
    Vendor(
        name="vllm",
        dialect="openai",
        base_url="http://127.0.0.1:8000/v1",
        auth="none",
        takes_top_k=True,
    ),
    Vendor(
        name="llamacpp",
        dialect="openai",
        base_url="http://127.0.0.1:8080/v1",
        auth="none",
        takes_top_k=True,
    ),
    Vendor(name="compatible", dialect="openai", base_url="", takes_top_k=True),
)

VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType({row.name: row for row in _ROWS})
"""The rows by name. `compatible` is the one of an unknown server."""
