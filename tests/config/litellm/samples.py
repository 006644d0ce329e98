"""Hand-written LiteLLM configurations, translated, and loaded as `crossfade check` would."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crossfade.config.litellm.translate import Translation, translate
from crossfade.config.loader import load_config
from crossfade.config.settings import Config
from crossfade.providers.compatible import VENDORS

FOLDER = Path(__file__).parent / "configs"
EXPECTED = Path(__file__).parent / "expected"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def made(name: str) -> Translation:
    """One of the hand-written ones, translated."""
    return translate((FOLDER / f"{name}.yaml").read_bytes(), f"{name}.yaml", VENDORS)


def of(text: str) -> Translation:
    return translate(text.encode(), "config.yaml", VENDORS)


def environ_for(variables: Iterable[str]) -> dict[str, str]:
    """The variables as somebody sets them who has read what the import says."""
    kinds = {"BASE": "https://set.acme.example", "TIMEOUT": "7"}
    return {
        "HOME": "/nowhere",
        **{name: kinds.get(name.rpartition("_")[2], f"key-of-{name.lower()}-0123456789") for name in variables},
    }


def loaded(translation: Translation, folder: Path) -> Config:
    """The output as crossfade reads it."""
    assert translation.text is not None
    file = folder / "crossfade.yaml"
    file.write_text(translation.text)
    return load_config(file, environ_for(translation.variables), VENDORS)


def said(translation: Translation, setting: str) -> list[tuple[int | None, str, str]]:
    """Line, kind and reason of the remarks on a setting."""
    return [(one.line, one.kind, one.reason) for one in translation.remarks if one.setting == setting]


def model(name: str, provider_model: str, **params: object) -> str:
    """An item of `model_list`, in one line of YAML."""
    more = "".join(f", {key}: {value}" for key, value in params.items())
    return f'  - {{model_name: "{name}", litellm_params: {{model: "{provider_model}"{more}}}}}\n'
