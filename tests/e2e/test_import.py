"""A LiteLLM configuration that was imported serves the names it served, falling back as it did."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from crossfade.config.litellm.translate import translate
from crossfade.core.failure import FailureReason as R
from crossfade.providers.compatible import VENDORS
from crossfade.simulator.thread import ProviderSimulator
from tests.config.litellm.samples import environ_for
from tests.e2e.harness import TEXT, new_mark, run, stage

CONFIG = """\
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o
      api_base: {first}
      api_key: os.environ/FIRST_KEY
  - model_name: gpt-4o
    litellm_params:
      model: openai/gpt-4o-mirror
      api_base: {second}
      api_key: sk-in-the-file-0123456789
  - model_name: claude
    litellm_params:
      model: anthropic/claude-opus-4-1
      api_base: {third}
      api_key: os.environ/THIRD_KEY
  - model_name: house/*
    litellm_params:
      model: openai/*
      api_base: {second}
      api_key: sk-in-the-file-0123456789

router_settings:
  model_group_alias: {{gpt-4: gpt-4o}}
  fallbacks: [{{gpt-4o: [claude]}}]
  num_retries: 0

general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4"])
def test_imported_names_are_served_and_fall_back(simulator: ProviderSimulator, name: str, stream: bool) -> None:
    mark = new_mark()
    urls = {
        "first": simulator.base_url("openai", f"{mark}a"),
        "second": simulator.base_url("openai", f"{mark}b"),
        "third": simulator.base_url("anthropic", f"{mark}c"),
    }
    made = translate(CONFIG.format(**urls).encode(), "config.yaml", VENDORS)
    assert made.text is not None and not made.lost
    environ = environ_for(made.variables)
    text = made.text.replace("127.0.0.1:4000 ", "127.0.0.1:0 ").replace("127.0.0.1:4001", "127.0.0.1:0")

    async def main() -> None:
        async with stage(text, simulator, mark, environ=environ) as gateway:
            client = gateway.client.with_options(api_key=environ["LITELLM_MASTER_KEY"])
            pool = {"gpt-4o", "gpt-4o-mirror"}
            for broken, served in (("", pool), ("a", {"gpt-4o-mirror"}), ("b", {"claude-opus-4-1"})):
                if broken:
                    gateway.schedule(broken, then="500")
                answer = await gateway.ask(client=client, model=name, stream=stream)
                assert answer.text == TEXT and answer.model in served
            assert [reason for _, reason in gateway.record.reasons()][-1] is None
            assert R.SERVER_ERROR in [reason for _, reason in gateway.record.reasons()]
            gateway.schedule("b", then="ok")
            wild = await gateway.ask(client=client, model="house/anything", stream=stream)
            assert (wild.text, wild.model) == (TEXT, "anything")
            with pytest.raises(openai.AuthenticationError):
                await gateway.ask(model=name, stream=stream)

    run(main())


def test_the_import_reads_no_file_but_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = CONFIG.format(first="http://127.0.0.1:9/v1", second="http://127.0.0.1:8/v1", third="http://127.0.0.1:7")
    assert translate(text.encode(), "/no/such/place/config.yaml", VENDORS).text is not None
    assert list(tmp_path.iterdir()) == []
