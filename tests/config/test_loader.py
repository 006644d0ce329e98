"""From text to a Config: what a right file amounts to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from crossfade.config.advice import NO_CHAIN
from crossfade.config.catalogue import ModelFacts
from crossfade.config.directory import Directory
from crossfade.config.leaves import Address
from crossfade.config.loader import find_config, load_config
from crossfade.config.problems import ConfigErrors
from crossfade.config.secrets import SecretRef, hash_key
from crossfade.core.exchange import Ability
from crossfade.core.failure import DEFAULT_FALLBACK, FailureReason
from crossfade.core.policy import CommitPolicy, RetryPolicy, RoutePolicy, TimeoutPolicy
from crossfade.core.target import Target, Vendor
from crossfade.providers.compatible import VENDORS as ROWS
from tests.config.samples import ENVIRON, EXAMPLE, VENDORS, Folder, facts

PROVIDERS = """\
providers:
  openai: {api_keys: [env:OPENAI_API_KEY, env:SECOND_KEY], silence_timeout: 7s, idle_timeout: 8s}
  anthropic: {}
"""


def test_the_example_of_the_docs_is_good(folder: Folder) -> None:
    config = folder.load(EXAMPLE)
    assert list(config.providers) == ["anthropic", "openai", "google", "local"]
    assert [rung.name for rung in config.routes["chat"].chain] == [
        "anthropic/claude-opus-5",
        "openai/gpt-5.4",
        "google/gemini-3.8-flash",
    ]
    assert config.routes["chat"].policy == RoutePolicy()
    assert config.routes["background"].policy.stream.commit == CommitPolicy(at="complete")
    assert config.routes["background"].chain[1].targets[0].timeouts == TimeoutPolicy(first_content=120.0)
    assert [rung.name for rung in config.fallbacks["*"]] == ["openai/gpt-5.4"]
    assert config.gateway_keys[0].route == "chat"
    assert config.wants_keys
    assert (config.notes, config.warnings) == ((), ())


def test_every_key_of_a_provider_is_a_target_of_the_rung(folder: Folder) -> None:
    config = folder.load(PROVIDERS + "routes: {chat: {chain: [openai/gpt-5.4, anthropic/claude-opus-5]}}")
    first, second = config.routes["chat"].chain
    assert [(t.key, t.credential) for t in first.targets] == [("openai/gpt-5.4#0", 0), ("openai/gpt-5.4#1", 1)]
    assert [t.key for t in second.targets] == ["anthropic/claude-opus-5#0"]
    assert config.providers["openai"].api_keys == (SecretRef("env", "OPENAI_API_KEY"), SecretRef("env", "SECOND_KEY"))


def test_a_key_can_name_its_account(folder: Folder) -> None:
    config = folder.load(
        """\
providers:
  openai:
    api_keys: [{key: env:OPENAI_API_KEY, account: team}, {key: env:SECOND_KEY}]
routes: {chat: {chain: [openai/gpt-5.4]}}
"""
    )
    provider = config.providers["openai"]
    assert provider.api_keys == (SecretRef("env", "OPENAI_API_KEY"), SecretRef("env", "SECOND_KEY"))
    assert provider.accounts == ("team", "")
    assert [target.account for target in config.routes["chat"].chain[0].targets] == ["team", ""]


def test_timers_nearer_to_the_target_win(folder: Folder) -> None:
    config = folder.load(
        """\
providers:
  openai:
    connect_timeout: 1
    idle_timeout: 1
    silence_timeout: 1
    models: {gpt-5.4: {idle_timeout: 2, silence_timeout: 2}}
routes:
  chat: {chain: [{target: openai/gpt-5.4, silence_timeout: 3s}], attempt_timeout: 1m, timeout: 90, max_stream: 2h}
"""
    )
    route = config.routes["chat"]
    assert route.chain[0].targets[0].timeouts == TimeoutPolicy(connect=1, idle=2, silence=3)
    assert route.policy.timeouts == TimeoutPolicy(attempt=60, overall=90, max_stream=7200)


def test_all_policies_of_a_route_arrive(folder: Folder) -> None:
    config = folder.load(
        PROVIDERS
        + """\
routes:
  chat:
    chain:
      - {target: openai/gpt-5.4, set: {temperature: 0, stop: [a]}, drop: [seed]}
      - anthropic/claude-opus-5
    fallback_on: [default, -rate_limit, content_filter]
    commit: {chars: 40}
    hold: [json]
    recover: error
    validate: {min_chars: 3, finish: [stop, tool_calls], match: "^a+$", not_match: sorry}
    stream_upstream: false
    retry: {max_wait: 0, delay: 100ms, max_attempts: 3, budget: 10%}
    allow: [openai/*]
    trace: true
"""
    )
    route = config.routes["chat"]
    assert route.policy.fallback_on == (DEFAULT_FALLBACK | {FailureReason.CONTENT_FILTER}) - {
        FailureReason.RATE_LIMIT,
        FailureReason.QUOTA_EXHAUSTED,
    }
    stream = route.policy.stream
    assert (stream.commit, stream.hold_tool_calls, stream.hold_json) == (
        CommitPolicy(at="chars", value=40),
        False,
        True,
    )
    assert stream.recover == "error"
    assert msgspec.structs.astuple(route.policy.validation) == (3, ("stop", "tool_calls"), "^a+$", "sorry")
    assert route.policy.stream_upstream == "false"
    assert route.policy.retry == RetryPolicy(max_wait=0, delay=0.1, max_attempts=3, budget_ratio=0.1)
    assert (route.allow, route.trace) == (("openai/*",), True)
    target = route.chain[0].targets[1]
    assert (target.set_params, target.drop_params) == ((("temperature", b"0"), ("stop", b'["a"]')), ("seed",))


def test_what_the_file_says_of_a_model_wins_over_the_catalogue(folder: Folder) -> None:
    known = facts(
        {
            ("openai", "a"): ModelFacts(
                window=10, lacks=frozenset({Ability.VISION, Ability.TOOLS}), always_thinks=True, price_in=0.5
            )
        }
    )
    text = """\
providers:
  openai:
    prefill: true
    models:
      a: {window: 20, vision: true, json_schema: false, thinking: false, slow: true}
      b: {prefill: false}
routes: {chat: {chain: [openai/a, openai/b]}}
"""
    first, second = (rung.targets[0] for rung in folder.load(text, facts=known).routes["chat"].chain)
    assert (first.window, first.always_thinks, first.is_slow, first.prefill) == (20, False, True, True)
    assert first.lacks == {Ability.TOOLS, Ability.JSON_SCHEMA}
    assert (first.price_in, first.assembles) == (0.5, True)
    assert (second.prefill, second.window, second.lacks) == (False, None, frozenset())


EMBEDDINGS = facts({("openai", "embed-1"): ModelFacts(is_embedding=True)})
PAIR = "providers: {openai: {}, other: {dialect: openai, base_url: 'http://127.0.0.1:9/v1', models: {%s}}}\n"


@pytest.mark.parametrize(
    ("chain", "models"),
    [
        ("[openai/embed-1, other/maker/embed-1]", ""), ("[other/embed-9, openai/chat]", ""),
        ("[openai/embed-1, other/x]", "x: {embedding: maker/embed-1}"),
        ("[other/x, other/y]", "x: {embedding: e}, y: {embedding: e}"),
    ],
)  # fmt: skip
def test_a_chain_of_one_embedding_model_is_taken(folder: Folder, chain: str, models: str) -> None:
    text = PAIR % models + f"routes: {{search: {{chain: {chain}}}}}"
    assert folder.load(text, facts=EMBEDDINGS).routes["search"].chain


@pytest.mark.parametrize(
    ("chain", "models", "place"),
    [
        ("[openai/embed-1, other/embed-2]", "", 1), ("[other/chat, openai/embed-1]", "", 1),
        ("[openai/embed-1, other/embed-1, other/x]", "x: {embedding: embed-2}", 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["routes: {search: {chain: %s}}", "fallbacks: {name: %s}"])
def test_a_chain_of_two_embedding_models_is_refused(
    folder: Folder, chain: str, models: str, place: int, where: str
) -> None:
    text = PAIR % models + f"{where % chain}"
    with pytest.raises(ConfigErrors) as caught:
        folder.load(text, facts=EMBEDDINGS)
    (error,) = caught.value.errors
    assert error.field is not None and error.field.endswith(f"[{place}]") and error.line == 2
    assert "cannot be mixed" in error.message and "embedding:" in error.message


CATALOGUE = ModelFacts(
    window=10, lacks=frozenset({Ability.VISION}), always_thinks=True, is_slow=True, price_in=0.5, price_out=0.75
)
NOTHING_KNOWN = ModelFacts()


@pytest.mark.parametrize("known", [CATALOGUE, NOTHING_KNOWN, None], ids=["known", "partly known", "unknown"])
@pytest.mark.parametrize(
    ("said", "field", "value"),
    [
        ("window: 20", "window", 20),
        ("thinking: false", "always_thinks", False),
        ("thinking: true", "always_thinks", True),
        ("slow: false", "is_slow", False),
        ("slow: true", "is_slow", True),
        ("price_in: 2.50", "price_in", 0.0000025),
        ("price_in: 0", "price_in", 0.0),
        ("price_in: 0.1", "price_in", 0.0000001),
        ("price_in: '${PRICE}'", "price_in", 0.0000125),
        ("price_out: 15", "price_out", 0.000015),
        ("prefill: true", "prefill", True),
        *[(f"{one}: false", "lacks", frozenset({one})) for one in Ability],
        *[(f"{one}: true", "lacks", frozenset()) for one in Ability],
    ],
)
def test_each_fact_of_the_catalogue_can_be_said_otherwise(
    folder: Folder, said: str, field: str, value: object, known: ModelFacts | None
) -> None:
    catalogue = facts({} if known is None else {("openai", "m"): known})

    def target(text: str) -> Target:
        models = f"models: {{m: {{{text}}}}}"
        loaded = folder.load(
            f"providers: {{openai: {{{models}}}}}\nroutes: {{r: {{chain: [openai/m]}}}}",
            {**ENVIRON, "PRICE": "12.5"},
            catalogue,
        )
        return loaded.routes["r"].chain[0].targets[0]

    without = target("")
    if isinstance(value, frozenset):
        ability = Ability(said.partition(":")[0])
        value = (without.lacks - {ability}) | value
    assert target(said) == msgspec.structs.replace(without, **{field: value}), "and nothing else changes"


def test_facts_that_are_said_are_those_of_names_that_callers_send(folder: Folder) -> None:
    text = "providers: {openai: {models: {m: {window: 7, price_in: 1, price_out: 2, tools: false}}}}"
    rung = Directory(folder.load(text)).rung_for("openai/m")
    assert rung is not None
    target = rung.targets[0]
    assert (target.window, target.price_in, target.price_out, target.lacks) == (7, 1e-06, 2e-06, {Ability.TOOLS})


@pytest.mark.parametrize(
    ("text", "vendor", "base_url"),
    [
        ("openai: {}", "openai", "https://api.openai.com/v1"),
        ("openai: {base_url: http://127.0.0.1:9/v1/}", "openai", "http://127.0.0.1:9/v1"),
        ("work: {vendor: openai}", "openai", "https://api.openai.com/v1"),
        ("work: {base_url: https://api.groq.com/openai/v1, api_keys: []}", "groq", "https://api.groq.com/openai/v1"),
        ("google: {dialect: gemini}", "gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("work: {dialect: anthropic, base_url: https://proxy.example/v1}", "anthropic", "https://proxy.example/v1"),
        ("openai: {dialect: responses}", "openai", "https://api.openai.com/v1"),
        ("work: {dialect: responses, vendor: openai}", "openai", "https://api.openai.com/v1"),
        ("work: {dialect: responses, base_url: http://127.0.0.1:8/v1}", "compatible", "http://127.0.0.1:8/v1"),
        ("work: {dialect: openai, base_url: http://127.0.0.1:8/v1}", "compatible", "http://127.0.0.1:8/v1"),
        ("anthropic: {dialect: openai, base_url: https://x.example/v1}", "compatible", "https://x.example/v1"),
    ],
)
def test_which_vendor_a_provider_is_of(folder: Folder, text: str, vendor: str, base_url: str) -> None:
    (provider,) = folder.load(f"providers:\n  {text}").providers.values()
    assert (provider.vendor.name, provider.vendor.base_url) == (vendor, base_url)


def test_a_vendors_own_key_goes_to_the_vendors_own_host_only(folder: Folder) -> None:
    config = folder.load("providers:\n  openai: {}\n  work: {vendor: openai, base_url: https://elsewhere.example/v1}")
    assert config.providers["openai"].api_keys == (SecretRef("env", "OPENAI_API_KEY"),)
    assert config.providers["work"].api_keys == ()
    assert folder.load("providers: {openai: {base_url: http://api.openai.com/v1}}").providers["openai"].api_keys == ()


def test_keys_make_an_open_server_row_authenticate(folder: Folder) -> None:
    config = folder.load("providers:\n  ollama: {}\n  two: {vendor: ollama, api_keys: [env:SECOND_KEY]}")
    assert [p.vendor.auth for p in config.providers.values()] == ["none", "bearer"]


def test_keys_in_files_are_found_beside_the_configuration(folder: Folder) -> None:
    (folder.path / "key").write_text("sk-file-0123456789\n")
    config = folder.load("providers: {openai: {api_keys: [file:key]}}")
    (ref,) = config.providers["openai"].api_keys
    assert ref.read({}) == "sk-file-0123456789"


def test_variables_are_filled_in_with_their_types(folder: Folder) -> None:
    environ = {**ENVIRON, "PORT": "5000", "MOST": "7", "MODE": "json", "WAIT": "2s", "ON": "true"}
    config = folder.load(
        """\
server: {listen: "127.0.0.1:${PORT}"}
providers: {openai: {connect_timeout: "${WAIT}"}}
limits: {max_connections: "${MOST}", head_bytes: "${SIZE:-16KiB}"}
log: {format: "${MODE}"}
journal:
  fsync: ${ON}
state_dir: "$${HOME}"
""",
        environ,
    )
    assert config.server.listen == Address("127.0.0.1", 5000)
    assert (config.limits.max_connections, config.limits.head_bytes, config.log.format) == (7, 16384, "json")
    assert (config.journal.fsync, config.state_dir) == (True, folder.path / "${HOME}")
    assert type(config.log.format) is str


def test_merge_keys_share_settings(folder: Folder) -> None:
    config = folder.load(
        """\
providers:
  openai: &base {connect_timeout: 1, silence_timeout: 2}
  anthropic: {<<: *base, silence_timeout: 3}
"""
    )
    assert config.providers["anthropic"].timeouts == TimeoutPolicy(connect=1, silence=3)


def test_a_bare_model_in_a_chain_is_found_where_only_one_provider_can_be_meant(folder: Folder) -> None:
    config = folder.load("providers: {openai: {}, anthropic: {}}\nroutes: {r: {chain: [gpt-5.4, claude-x]}}")
    assert [rung.name for rung in config.routes["r"].chain] == ["openai/gpt-5.4", "anthropic/claude-x"]
    config = folder.load("providers: {ollama: {}}\nroutes: {r: {chain: [llama3]}}")
    assert config.routes["r"].chain[0].name == "ollama/llama3"


def test_gateway_keys_by_reference_are_hashed(folder: Folder) -> None:
    config = folder.load(PROVIDERS + "gateway_keys: [{name: a, key: env:OPENAI_API_KEY}]")
    assert config.gateway_keys[0].hash == hash_key(ENVIRON["OPENAI_API_KEY"])


def test_version_changes_with_values_only(folder: Folder) -> None:
    one = folder.load("providers: {openai: {}}")
    assert folder.load("# a comment\nproviders:\n  openai:  {}\n").version == one.version
    assert folder.load("providers: {openai: {network: private}}").version != one.version


def test_paths_have_places_of_their_own(folder: Folder) -> None:
    assert folder.load("providers: {openai: {}}").state_dir == Path("/nowhere/.local/state/crossfade")
    config = folder.load("providers: {openai: {}}\nstate_dir: state", {**ENVIRON, "XDG_STATE_HOME": "/other"})
    assert (config.state_dir, config.journal.path) == (folder.path / "state", folder.path / "state" / "journal")


# --- without a file -------------------------------------------------------------------------------------------


def test_without_a_file_keys_in_the_environment_make_providers_and_no_chain() -> None:
    config = load_config(None, {"GOOGLE_API_KEY": "k", "OPENAI_API_KEY": "k", "GROQ_API_KEY": ""}, VENDORS)
    assert [(p.name, p.api_keys) for p in config.providers.values()] == [
        ("openai", (SecretRef("env", "OPENAI_API_KEY"),)),
        ("gemini", (SecretRef("env", "GOOGLE_API_KEY"),)),
    ]
    assert (config.routes, config.fallbacks, config.file) == ({}, {}, None)
    assert any("env:GOOGLE_API_KEY" in note for note in config.notes)
    assert NO_CHAIN in config.notes
    assert not config.wants_keys


def test_without_a_file_one_variable_makes_one_provider() -> None:
    twin = msgspec.structs.replace(VENDORS["openai"], name="openai-eu", base_url="https://eu.api.openai.com/v1")
    config = load_config(None, {"OPENAI_API_KEY": "k"}, {**VENDORS, "openai-eu": twin})
    assert list(config.providers) == ["openai"]


def test_without_a_file_and_without_keys_it_says_what_to_do() -> None:
    with pytest.raises(ConfigErrors, match=r"OPENAI_API_KEY.*crossfade init"):
        load_config(None, {}, VENDORS)


def test_which_file_is_found(tmp_path: Path) -> None:
    assert find_config(None, {}, tmp_path) is None
    (tmp_path / "crossfade.yaml").touch()
    assert find_config(None, {}, tmp_path) == tmp_path / "crossfade.yaml"
    assert find_config(None, {"CROSSFADE_CONFIG": "/x"}, tmp_path) == Path("/x")
    assert find_config(Path("given"), {"CROSSFADE_CONFIG": "/x"}, tmp_path) == Path("given")


# --- notes and warnings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("routes: {r: {chain: [openai/a]}}", "nothing to fall back to"),
        ("routes: {r: {chain: [openai/a, openai/b]}}", "its outage takes all"),
        ("routes: {r: {chain: [openai/a, anthropic/b], fallback_on: []}}", "only its first target"),
        ("routes: {r: {chain: [openai/a, anthropic/b], timeout: 10s}}", "leaves no time for a fallback"),
        ("server: {listen: 0.0.0.0:4000, auth: none}", "spends your keys"),
        ("routes: {r: {chain: [openai/o3-pro, anthropic/b]}}", "Responses API only"),
    ],
)
def test_probable_mistakes_are_warned_of(folder: Folder, text: str, words: str) -> None:
    known = facts({("openai", "o3-pro"): ModelFacts(only_responses=True)})
    assert words in " ".join(folder.load(PROVIDERS + text, facts=known).warnings)


def test_the_responses_dialect_is_the_other_api_of_the_same_vendor(folder: Folder) -> None:
    known = facts({("openai", "o3-pro"): ModelFacts(only_responses=True)})
    text = "providers: {openai: {dialect: responses}, ollama: {dialect: responses}}\n"
    config = folder.load(text + "routes: {r: {chain: [openai/o3-pro, ollama/b]}}", facts=known)
    openai, ollama = (config.providers[name].vendor for name in ("openai", "ollama"))
    assert (openai.name, openai.dialect, openai.auth) == ("openai", "responses", "bearer")
    assert (ollama.name, ollama.dialect, ollama.auth) == ("ollama", "responses", "none")
    assert not openai.assembles
    assert not any("Responses API" in warning for warning in config.warnings)


def test_keys_sent_in_the_clear_are_warned_of(folder: Folder) -> None:
    text = "providers: {x: {dialect: openai, base_url: http://%s/v1, api_keys: [env:SECOND_KEY]}}"
    assert "unencrypted" in " ".join(folder.load(text % "api.example.com").warnings)
    assert folder.load(text % "10.0.0.7").warnings == ()
    no_path = "providers: {x: {dialect: openai, base_url: 'http://127.0.0.1:8'}}"
    assert "/v1" in " ".join(folder.load(no_path).warnings)


def test_public_listeners_want_keys(folder: Folder) -> None:
    config = folder.load("server: {listen: 0.0.0.0:4000}\n" + PROVIDERS)
    assert config.wants_keys
    assert any("one is made" in note for note in config.notes)
    assert not folder.load("server: {listen: '[::1]:4000'}\n" + PROVIDERS).wants_keys
    assert folder.load("server: {auth: keys}\n" + PROVIDERS).wants_keys


def test_vendors_of_the_program_fit() -> None:

    environ: dict[str, str] = {}
    for row in ROWS.values():
        assert isinstance(row, Vendor)
        environ.update(dict.fromkeys(row.env, "k"))
    config = load_config(None, environ, ROWS)
    assert {"openai", "anthropic", "gemini"} <= config.providers.keys()


def test_a_rule_without_a_fallback_and_a_bound_without_prices_are_warned_of(folder: Folder) -> None:
    config = folder.load(
        "providers: {openai: {}, anthropic: {}}\n"
        "routes:\n  r:\n    chain: [openai/unknown, anthropic/unknown]\n    max_cost: 2x\n"
        "    rules: [{name: alone, when: {tools: true}, chain: [openai/unknown]}]"
    )
    assert "rule 'alone' of route 'r' has one target: nothing to fall back to" in config.warnings
    assert (
        "route 'r' has max_cost, which bounds nothing without prices: openai/unknown, anthropic/unknown"
        in config.warnings
    )
