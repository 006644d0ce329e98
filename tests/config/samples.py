"""What the tests of the configuration share: a few vendors, and loading from text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from crossfade.config.catalogue import Facts, ModelFacts, no_facts
from crossfade.config.loader import load_config
from crossfade.config.problems import ConfigErrors
from crossfade.config.settings import Config
from crossfade.core.target import Vendor

VENDORS = {
    row.name: row
    for row in (
        Vendor(
            name="openai",
            dialect="openai",
            base_url="https://api.openai.com/v1",
            env=("OPENAI_API_KEY",),
            assembles=True,
            model_prefixes=("gpt-", "o3"),
        ),
        Vendor(
            name="anthropic",
            dialect="anthropic",
            base_url="https://api.anthropic.com/v1",
            env=("ANTHROPIC_API_KEY",),
            auth="x-api-key",
            model_prefixes=("claude-",),
        ),
        Vendor(
            name="gemini",
            dialect="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            auth="x-goog-api-key",
            model_prefixes=("gemini-",),
        ),
        Vendor(name="groq", dialect="openai", base_url="https://api.groq.com/openai/v1", env=("GROQ_API_KEY",)),
        Vendor(name="cerebras", dialect="openai", base_url="https://api.cerebras.ai/v1", env=("CEREBRAS_API_KEY",)),
        Vendor(name="ollama", dialect="openai", base_url="http://127.0.0.1:11434/v1", auth="none"),
        Vendor(name="compatible", dialect="openai", base_url=""),
    )
}

ENVIRON = {
    "OPENAI_API_KEY": "sk-openai-0123456789",
    "ANTHROPIC_API_KEY": "sk-ant-0123456789",
    "GEMINI_API_KEY": "gem-0123456789",
    "SECOND_KEY": "sk-second-0123456789",
    "HOME": "/nowhere",
}

EXAMPLE = """\
server: {listen: 127.0.0.1:4000, admin: 127.0.0.1:4001}
providers:
  anthropic: {dialect: anthropic, api_keys: [env:ANTHROPIC_API_KEY]}
  openai:    {dialect: openai, api_keys: [env:OPENAI_API_KEY]}
  google:    {dialect: gemini, api_keys: [env:GEMINI_API_KEY]}
  local:     {dialect: openai, base_url: http://127.0.0.1:11434/v1, first_content_timeout: 120s}
routes:
  chat:
    match: [gpt-5.4, claude-*]
    chain: [anthropic/claude-opus-5, openai/gpt-5.4, google/gemini-3.8-flash]
    fallback_on: [default]
  background:
    chain: [openai/gpt-5.4-mini, local/llama3]
    commit: complete
fallbacks: {"*": [openai/gpt-5.4]}
gateway_keys: [{name: web, hash: "sha256:%s", route: chat}]
""" % ("0" * 64)


def facts(known: Mapping[tuple[str, str], ModelFacts]) -> Facts:
    """A catalogue of a few models."""
    return lambda vendor, model: known.get((vendor, model))


class Folder:
    """A folder with a configuration in it."""

    def __init__(self, path: Path):
        self.path = path

    def load(self, text: str | bytes, environ: Mapping[str, str] = ENVIRON, facts: Facts = no_facts) -> Config:
        """The configuration that `text` is."""
        file = self.path / "crossfade.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(file, environ, VENDORS, facts)

    def errors(
        self, text: str | bytes, environ: Mapping[str, str] = ENVIRON, facts: Facts = no_facts
    ) -> list[tuple[int | None, str | None, str]]:
        """Line, field and message of everything that is wrong with `text`."""
        with pytest.raises(ConfigErrors) as caught:
            self.load(text, environ, facts)
        assert all(error.file == str(self.path / "crossfade.yaml") for error in caught.value.errors)
        return [(error.line, error.field, error.message) for error in caught.value.errors]
