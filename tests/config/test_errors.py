"""Every mistake has its file, line and field, says what to do, and hides no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.config.catalogue import ModelFacts
from crossfade.config.loader import load_config
from crossfade.config.problems import ConfigErrors, dotted
from crossfade.core.errors import ConfigError
from tests.config.samples import ENVIRON, EXAMPLE, VENDORS, Folder, facts

BASE = "providers: {openai: {}, anthropic: {}}\n"
RULE = BASE + "routes:\n  r:\n    chain: [openai/a]\n    rules:\n    - "
HASH = "sha256:" + "a" * 64

# text, line, field, words of the message
WRONG = [
    # YAML
    ("a: [1", 1, None, "not valid YAML"),
    ("server:\n\tlisten: x", 2, None, "tab"),
    ("a: b: c", 1, None, "indentation"),
    ("limits: {head_bytes: ${X}}", 1, None, "needs quotes"),
    ("a: 1\n---\nb: 2", 2, None, "second YAML document"),
    ("a: \x07", 1, None, "control character"),
    (b"\n\na: \xff", 3, None, "UTF-8"),
    ("x: *nothing", 1, None, "undefined alias"),
    ("[" * 2000, 1, None, "nested deeper"),
    ("a: &a [*a]", 1, None, "contain itself"),
    ("a: &a {<<: *a, b: 1}", 1, None, "contain itself"),
    ("a: &a {<<: *a}", 1, None, "contain itself"),
    (b"#" * (1024 * 1024 + 1), 1, None, "more than 1048576 bytes"),
    ("- a\n- b", 1, None, "a list; it takes keys: server, providers"),
    ("just text", 1, None, "text; it takes keys"),
    ("", None, "providers", "there are none"),
    (BASE + "server:\n  auth: none\n  auth: keys", 4, "server.auth", "twice (first in line 3)"),
    ("providers:\n  openai: {}\n  anthropic: {}\n  openai: {}", 4, "providers.openai", "twice"),
    (BASE + "routes:\n  a: {chain: [openai/x]}\n  a: {chain: [openai/y]}", 4, "routes.a", "twice"),
    (BASE + "routes: {1: {chain: [openai/x]}}", 2, "routes.1", "read as a number; put it in quotes"),
    (BASE + "routes: {on: {chain: [openai/x]}}", 2, "routes.on", "read as true or false"),
    (BASE + "routes: {[a]: {chain: [openai/x]}}", 2, "routes", "keys are text"),
    (BASE + 'routes: {"${X}": {chain: [openai/x]}}', 2, "routes.${X}", "not into keys"),
    (BASE + "state_dir: !!python/object:os.system x", 2, "state_dir", "YAML tag"),
    (BASE + "server: !!set {a}", 2, "server", "YAML tag"),
    (BASE + "server: {<<: 3}", 2, "server", "'<<' takes an alias"),
    (BASE + "state_dir: ${NOT_SET}", 2, "state_dir", "'NOT_SET' is not set; export it"),
    (BASE + "state_dir: ${}", 2, "state_dir", "is no reference"),
    # keys and types
    (BASE + "servers: {}", 2, "servers", "unknown key 'servers'; did you mean 'server'?"),
    (BASE + "server:\n  listn: x", 3, "server.listn", "unknown key 'listn'; did you mean 'listen'?"),
    (BASE + "log: {zzz: 1}", 2, "log.zzz", "known are format, level"),
    (BASE + "routes: {r: {chain: [{pool: weighted}]}}", 2, "routes.r.chain[0]", "the pool has no members"),
    (BASE + "routes: {r: {chain: [{pool: fastet, of: [openai/a]}]}}", 2, "routes.r.chain[0].pool", "mean 'fastest'?"),
    (BASE + "routes: {r: {chain: [{of: [openai/a]}]}}", 2, "routes.r.chain[0].of", "say by what one is chosen"),
    (
        BASE + "routes: {r: {chain: [{pool: sticky, of: [openai/a], drop: [seed]}]}}",
        2,
        "routes.r.chain[0].drop",
        "is of single targets; move 'drop' to the members",
    ),
    (
        BASE + "routes: {r: {chain: [openai/a, {pool: sticky, of: [openai/b, openai/a]}]}}",
        2,
        "routes.r.chain[1].of[1]",
        "'openai/a' is chain[0] too",
    ),
    (
        BASE + "routes: {r: {chain: [{pool: sticky, of: [{target: openai/a, weight: 0}]}]}}",
        2,
        "routes.r.chain[0]",
        "every weight in the pool is 0",
    ),
    (BASE + "routes: {r: {chain: [{target: openai/a, weight: 2}]}}", 2, "routes.r.chain[0].weight", "outside of a"),
    (
        BASE + "routes: {r: {chain: [{pool: weighted, of: [{target: openai/a, weight: -1}]}]}}",
        2,
        "routes.r.chain[0].of[0].weight",
        "-1 is no weight",
    ),
    (BASE + "fallbacks: {'*': [{pool: sticky, of: [openai/a]}]}", 2, "fallbacks.*[0]", "stand in a route's chain"),
    (BASE + "routes: {r: {shadow: [], chain: [openai/x]}}", 2, "routes.r.shadow", "not supported yet"),
    (BASE + "routes: {r: {hedge_after: p, chain: [openai/x]}}", 2, "routes.r.hedge_after", "is no time for a hedge"),
    (BASE + "rules: []", 2, "rules", "rules outside of routes are not supported yet"),
    ("providers: {openai: {headers: {}}}", 1, "providers.openai.headers", "not supported yet"),
    (
        "providers: {openai: {retention: 30}}",
        1,
        "providers.openai.retention",
        "write none, or how long, as in 24h or 30d",
    ),
    (
        BASE + "routes: {r: {chain: [openai/a], max_cost: 3}, s: {chain: [openai/a], max_cost: 0.5x}}",
        2,
        "routes.s.max_cost",
        "write 3x",
    ),
    (
        "providers: {openai: {region: us}, anthropic: {region: eu-west-1}}\n"
        "routes:\n  r:\n    require: {region: eu}\n    chain:\n    - anthropic/a\n    - openai/b",
        7,
        "routes.r.chain[1]",
        "'openai/b' may not be asked on this route: region eu is required, and it is in us",
    ),
    (
        "providers: {openai: {retention: none}, anthropic: {}}\n"
        "routes: {r: {require: {retention: 7d}, chain: [openai/a, {pool: weighted, of: [anthropic/b]}]}}",
        2,
        "routes.r.chain[1].of[0]",
        "retention 7d is required, and no retention is known of it",
    ),
    (
        "providers: {openai: {tags: [a, b]}, anthropic: {tags: [a]}}\n"
        "routes:\n  r:\n    require: {tags: [a, b]}\n    chain: [openai/a]\n"
        "    rules:\n    - when: {tools: true}\n      chain: [anthropic/b]",
        8,
        "routes.r.rules[0].chain[0]",
        "the tag b is required",
    ),
    # rules
    (RULE + "{chain: [openai/b]}", 6, "routes.r.rules[0]", "when is missing"),
    (RULE + "{when: {}, chain: [openai/b]}", 6, "routes.r.rules[0]", "when is missing"),
    (RULE + "{when: {tools: true}}", 6, "routes.r.rules[0]", "chain is missing"),
    (RULE + "{when: {tools: true}, chain: []}", 6, "routes.r.rules[0].chain", "chain is empty"),
    (RULE + "{when: {tools: 1}, chain: [openai/b]}", 6, "routes.r.rules[0].when.tools", "neither true nor false"),
    (RULE + "{when: {token: 1}, chain: [openai/b]}", 6, "routes.r.rules[0].when.token", "unknown key 'token'"),
    (
        RULE + "{when: {project: a}, chain: [openai/b]}",
        6,
        "routes.r.rules[0].when.project",
        "no gateway key is of a project 'a'; give a key its `project` under gateway_keys",
    ),
    (
        RULE
        + "{when: {project: [b-*, wbe]}, chain: [openai/b]}\n"
        + f"gateway_keys: [{{name: a, hash: '{HASH}', project: web}}, {{name: b, hash: '{HASH[:-1]}b', project: b-1}}]",
        6,
        "routes.r.rules[0].when.project",
        "no gateway key is of a project 'wbe'; did you mean 'web'?",
    ),
    (
        BASE + f"gateway_keys: [{{name: a, hash: '{HASH}', project: 'a b'}}]",
        2,
        "gateway_keys[0].project",
        "is no name for a project",
    ),
    (
        RULE + "{when: {input_tokens: {above: 9, below: 9}}, chain: [openai/b]}",
        6,
        "routes.r.rules[0].when.input_tokens",
        "no number is within",
    ),
    (
        RULE + "{when: {complexity: {above: 1}}, chain: [openai/b]}",
        6,
        "routes.r.rules[0].when.complexity",
        "no number is within",
    ),
    (RULE + "{when: {hours: 9-9}, chain: [openai/b]}", 6, "routes.r.rules[0].when.hours", "write it as 22:00-06:00"),
    (
        RULE + "{when: {hours: 9-17, zone: Europe/Berlim}, chain: [openai/b]}",
        6,
        "routes.r.rules[0].when.zone",
        "is no time zone",
    ),
    (RULE + "{when: {zone: UTC, stream: true}, chain: [openai/b]}", 6, "routes.r.rules[0].when.zone", "is for `hours`"),
    (
        RULE + "{when: {response_format: json}, chain: [openai/b]}",
        6,
        "routes.r.rules[0].when.response_format",
        "'json' is not one of text, json_object, json_schema",
    ),
    (
        RULE + "{when: {tools: true}, chain: [openai/b]}\n    - {when: {tools: true}, chain: [openai/c]}",
        7,
        "routes.r.rules[1].when",
        "the same conditions as rules[0]",
    ),
    (
        RULE
        + "{name: a, when: {tools: true}, chain: [openai/b]}\n    - {name: a, when: {tools: false}, chain: [openai/c]}",
        7,
        "routes.r.rules[1].name",
        "'a' is the name of another rule",
    ),
    (RULE + "{when: {tools: true}, chain: [openi/b]}", 6, "routes.r.rules[0].chain[0]", "did you mean 'openai'?"),
    # concurrency
    (
        "providers:\n  openai: {concurrency: 0}\n" + "routes: {r: {chain: [openai/a]}}",
        2,
        "providers.openai.concurrency",
        "0 is no number of calls from 1 to 100000",
    ),
    (
        "providers:\n  openai: {concurrency: {least: 9, most: 3}}\n" + "routes: {r: {chain: [openai/a]}}",
        2,
        "providers.openai.concurrency",
        "least (9) is more than most (3)",
    ),
    (
        "providers:\n  openai: {models: {a: {concurrency: lots}}}\n" + "routes: {r: {chain: [openai/a]}}",
        2,
        "providers.openai.models.a.concurrency",
        "'lots' is no bound of concurrency; write how many calls at once",
    ),
    (
        "providers:\n  openai: {concurrency: {}}\n" + "routes: {r: {chain: [openai/a]}}",
        2,
        "providers.openai.concurrency",
        "is no bound of concurrency",
    ),
    (
        "providers:\n  openai: {}\n" + "routes:\n  r:\n    chain: [openai/a]\n    queue: {size: -1}",
        6,
        "routes.r.queue.size",
        "-1 is no whole number from 0 up",
    ),
    (BASE + "log: {level: loud}", 2, "log.level", "'loud' is not one of debug, info, warning, error"),
    (BASE + "log: {level: 3}", 2, "log.level", "3 is not one of"),
    (BASE + "log: [a]", 2, "log", "is a list; it takes keys: format, level"),
    (BASE + "routes: [a]", 2, "routes", "it takes names"),
    (BASE + "routes: {r: {chain: openai/x}}", 2, "routes.r.chain", "is text; it takes a list"),
    (BASE + "routes: {r: {chain: [3]}}", 2, "routes.r.chain[0]", "the number 3; it takes keys: "),
    (BASE + "journal: {fsync: 1}", 2, "journal.fsync", "1 is neither true nor false"),
    (BASE + "limits: {header_count: 1.5}", 2, "limits.header_count", "no whole number"),
    (BASE + "limits: {header_count: 0}", 2, "limits.header_count", "no whole number from 1 up"),
    (BASE + "limits: {body_bytes: much}", 2, "limits.body_bytes", "no size"),
    (BASE + "state_dir: 3", 2, "state_dir", "is the number 3, not text; put it in quotes"),
    (BASE + "state_dir:", 2, "state_dir", "has no value"),
    (BASE + "gateway_keys: {a: b}", 2, "gateway_keys", "it takes a list"),
    # server
    (BASE + "server: {listen: 4000}", 2, "server.listen", "no address"),
    (BASE + "server: {listen: 'localhost:'}", 2, "server.listen", "no address"),
    (BASE + "server: {listen: 'localhost:99999'}", 2, "server.listen", "up to 65535"),
    (BASE + "server: {listen: '::1:4000'}", 2, "server.listen", "no address"),
    (BASE + "server: {listen: '300.1.1.1:80'}", 2, "server.listen", "no address"),
    (BASE + "server: {listen: 'http://x:80'}", 2, "server.listen", "no address"),
    (BASE + "server: {listen: '127.0.0.1:4001'}", 2, "server.listen", "use another port"),
    (BASE + "server: {listen: 'x:1', admin: 'x:1'}", 2, "server.admin", "use another port"),
    (BASE + f"server: {{auth: none}}\ngateway_keys: [{{name: a, hash: '{HASH}'}}]", 2, "server.auth", "be ignored"),
    # providers
    ("providers: {}", 1, "providers", "there are none"),
    ("providers: {opnai: {}}", 1, "providers.opnai", "dialect is missing"),
    ("providers: {x: {base_url: https://x.example/v1}}", 1, "providers.x", "dialect is missing"),
    ("providers: {x: {dialect: openai}}", 1, "providers.x", "base_url is missing"),
    ("providers: {x: {dialect: opnai}}", 1, "providers.x.dialect", "did you mean 'openai'?"),
    ("providers: {x: {vendor: opnai}}", 1, "providers.x.vendor", "unknown vendor 'opnai'; did you mean 'openai'?"),
    ("providers: {x: {vendor: gemini, dialect: responses}}", 1, "providers.x.dialect", "speaks 'gemini'"),
    ("providers: {x: {vendor: gemini, dialect: openai}}", 1, "providers.x.dialect", "speaks 'gemini'"),
    ("providers: {a/b: {vendor: openai}}", 1, "providers.a/b", "no name for a provider"),
    ("providers: {openai: {base_url: api.openai.com}}", 1, "providers.openai.base_url", "needs its scheme"),
    ("providers: {openai: {base_url: 'ftp://x/v1'}}", 1, "providers.openai.base_url", "needs its scheme"),
    ("providers: {openai: {base_url: 'https://u:p@x/v1'}}", 1, "providers.openai.base_url", "credentials"),
    ("providers: {openai: {base_url: 'https://x/v1?key=1'}}", 1, "providers.openai.base_url", "query"),
    ("providers: {openai: {base_url: 'https://x/v1#a'}}", 1, "providers.openai.base_url", "query or fragment"),
    ("providers: {openai: {base_url: 'https://'}}", 1, "providers.openai.base_url", "no valid host"),
    ("providers: {openai: {base_url: 'https://x:99999/v1'}}", 1, "providers.openai.base_url", "no valid host"),
    ("providers: {openai: {base_url: 'https://a b/v1'}}", 1, "providers.openai.base_url", "has a space"),
    ("providers: {openai: {api_keys: [env:NOT_SET]}}", 1, "providers.openai.api_keys[0]", "'NOT_SET' is not set; exp"),
    ("providers: {groq: {}}", 1, "providers.groq", "'GROQ_API_KEY' is not set; export it"),
    ("providers: {openai: {api_keys: [env:9]}}", 1, "providers.openai.api_keys[0]", "name of an environment var"),
    ("providers: {openai: {api_keys: [file:nope]}}", 1, "providers.openai.api_keys[0]", "No such file"),
    ("providers: {openai: {api_keys: ['file:/dev/null']}}", 1, "providers.openai.api_keys[0]", "is empty"),
    (
        "providers: {openai: {api_keys: [env:SECOND_KEY, {key: env:SECOND_KEY, account: a}]}}",
        1,
        "providers.openai.api_keys[1]",
        "env:SECOND_KEY is here twice",
    ),
    ("providers: {openai: {api_keys: [{account: a}]}}", 1, "providers.openai.api_keys[0]", "takes key and account"),
    ("providers: {openai: {api_keys: [{key: env:X, acount: a}]}}", 1, "providers.openai.api_keys[0]", "takes key and"),
    ("providers: {openai: {api_keys: [{key: env:X, account: 5}]}}", 1, "providers.openai.api_keys[0]", "is no name"),
    ("providers: {openai: {api_keys: [{key: env:X, account: ''}]}}", 1, "providers.openai.api_keys[0]", "is no name"),
    ("providers: {openai: {api_keys: [{key: env:NO}]}}", 1, "providers.openai.api_keys[0]", "'NO' is not set"),
    (
        "providers: {openai: {api_keys: [env:SECOND_KEY, env:SECOND_KEY]}}",
        1,
        "providers.openai.api_keys[1]",
        "env:SECOND_KEY is here twice",
    ),
    ("providers: {openai: {idle_timeout: soon}}", 1, "providers.openai.idle_timeout", "no duration"),
    ("providers: {openai: {idle_timeout: 0}}", 1, "providers.openai.idle_timeout", "would fail every attempt"),
    ("providers: {openai: {idle_timeout: -1}}", 1, "providers.openai.idle_timeout", "no duration"),
    ("providers: {openai: {idle_timeout: .inf}}", 1, "providers.openai.idle_timeout", "more than a week"),
    ("providers: {openai: {models: {a: {windw: 1}}}}", 1, "providers.openai.models.a.windw", "'window'"),
    ("providers: {openai: {models: {g-5.4: {window: x}}}}", 1, 'providers.openai.models."g-5.4".window', "whole"),
    ("providers: {openai: {models: {a: {price_in: -1}}}}", 1, "providers.openai.models.a.price_in", "is no price"),
    ("providers: {openai: {models: {a: {price_in: true}}}}", 1, "providers.openai.models.a.price_in", "is no price"),
    ("providers: {openai: {models: {a: {price_in: .nan}}}}", 1, "providers.openai.models.a.price_in", "is no price"),
    (
        "providers: {openai: {models: {a: {price_out: 0.000015}}}}",
        1,
        "providers.openai.models.a.price_out",
        "1.5e-05 looks like the price of one token; write it per million tokens, as 15",
    ),
    # routes
    (BASE + "routes:\n  r: {}", 3, "routes.r", "chain is missing"),
    (BASE + "routes:\n  r:\n    chain: []", 4, "routes.r.chain", "chain is empty"),
    (
        BASE + "routes: {r: {chain: [opnai/x]}}",
        2,
        "routes.r.chain[0]",
        "unknown provider 'opnai'; did you mean 'openai'?",
    ),
    (
        BASE + "routes: {r: {chain: [zzz/x]}}",
        2,
        "routes.r.chain[0]",
        "unknown provider 'zzz'; known are openai, anthropic",
    ),
    (BASE + "routes: {r: {chain: [openai/]}}", 2, "routes.r.chain[0]", "no target"),
    (BASE + "routes: {r: {chain: ['openai/*']}}", 2, "routes.r.chain[0]", "no target"),
    (BASE + "routes: {r: {chain: ['openai/a, openai/b']}}", 2, "routes.r.chain[0]", "no target"),
    (BASE + "routes: {r: {chain: [llama]}}", 2, "routes.r.chain[0]", "write PROVIDER/llama"),
    (BASE + "routes: {r: {chain: [openai]}}", 2, "routes.r.chain[0]", "is a provider; add the model"),
    (BASE + "routes: {r: {chain: [{drop: [a]}]}}", 2, "routes.r.chain[0]", "target is missing"),
    (BASE + "routes:\n  r:\n    chain:\n    - openai/x\n    - openai/x", 6, "routes.r.chain[1]", "is chain[0] too"),
    (BASE + "routes: {r: {chain: [{target: openai/x, set: {model: y}}]}}", 2, "routes.r.chain[0].set.model", "decided"),
    (BASE + "routes: {r: {chain: [{target: openai/x, drop: [stream]}]}}", 2, "routes.r.chain[0].drop[0]", "decided"),
    (
        BASE + "routes: {r: {chain: [{target: openai/x, set: {a: 1}, drop: [a]}]}}",
        2,
        "routes.r.chain[0].drop[0]",
        "under set too",
    ),
    (BASE + "routes: {r: {chain: [{target: openai/x, set: {a: .nan}}]}}", 2, "routes.r.chain[0].set", "JSON"),
    (BASE + "routes: {'a b': {chain: [openai/x]}}", 2, 'routes."a b"', "no name for a route"),
    (BASE + "routes: {'*': {chain: [openai/x]}}", 2, "routes.*", "no name for a route"),
    (
        BASE + "routes:\n  a: {chain: [openai/x], match: [m]}\n  b: {chain: [openai/x], match: [n, m]}",
        4,
        "routes.b.match[1]",
        "matched by route 'a' already",
    ),
    (
        BASE + "routes:\n  a: {chain: [openai/x]}\n  b: {chain: [openai/x], match: [a]}",
        4,
        "routes.b.match[0]",
        "name of another route",
    ),
    (BASE + "routes: {a: {chain: [openai/x], match: ['x, y']}}", 2, "routes.a.match[0]", "space or comma"),
    (BASE + "routes: {a: {chain: [openai/x], fallback_on: [sometimes]}}", 2, "routes.a.fallback_on", "'sometimes'"),
    (BASE + "routes: {a: {chain: [openai/x], fallback_on: [invalid_request]}}", 2, "routes.a.fallback_on", "never"),
    (BASE + "routes: {a: {chain: [openai/x], fallback_on: default}}", 2, "routes.a.fallback_on", "write [default]"),
    (BASE + "routes: {a: {chain: [openai/x], commit: later}}", 2, "routes.a.commit", "'later'"),
    (BASE + "routes: {a: {chain: [openai/x], commit: {chars: -1}}}", 2, "routes.a.commit", "-1"),
    (BASE + "routes: {a: {chain: [openai/x], hold: [text]}}", 2, "routes.a.hold", "'text'"),
    (BASE + "routes: {a: {chain: [openai/x], recover: maybe}}", 2, "routes.a.recover", "continue, error"),
    (BASE + "routes: {a: {chain: [openai/x], validate: {match: '(?=a)'}}}", 2, "routes.a.validate.match", "RE2"),
    (BASE + "routes: {a: {chain: [openai/x], validate: {finish: [done]}}}", 2, "routes.a.validate.finish[0]", "stop"),
    (BASE + "routes: {a: {chain: [openai/x], retry: {budget: 120%}}}", 2, "routes.a.retry.budget", "no share"),
    (BASE + "routes: {a: {chain: [openai/x], allow: [opnai/*]}}", 2, "routes.a.allow[0]", "did you mean 'openai'"),
    (BASE + "routes: {a: {chain: [openai/x], allow: [gpt]}}", 2, "routes.a.allow[0]", "matches no target"),
    # fallbacks
    (BASE + "fallbacks: {'claude-*': [openai/x]}", 2, "fallbacks.claude-*", "exact model names, or '*' alone"),
    (BASE + "fallbacks: {'*': [opnai/x]}", 2, "fallbacks.*[0]", "unknown provider 'opnai'"),
    (
        BASE + "routes: {a: {chain: [openai/x], match: [m]}}\nfallbacks: {m: [openai/x]}",
        3,
        "fallbacks.m",
        "route 'a' serves this name",
    ),
    # gateway keys
    (BASE + "gateway_keys: [{name: a}]", 2, "gateway_keys[0]", "neither of hash and key"),
    (
        BASE + f"gateway_keys: [{{name: a, hash: '{HASH}', key: env:SECOND_KEY}}]",
        2,
        "gateway_keys[0]",
        "both of hash and key",
    ),
    (BASE + f"gateway_keys: [{{hash: '{HASH}'}}]", 2, "gateway_keys[0]", "name is missing"),
    (BASE + "gateway_keys: [{name: a, hash: 123}]", 2, "gateway_keys[0].hash", "crossfade keys new"),
    (BASE + "gateway_keys: [{name: a, key: env:HOME}]", 2, "gateway_keys[0].key", "fewer than"),
    (
        BASE + f"gateway_keys:\n- {{name: a, hash: '{HASH}'}}\n- {{name: a, key: env:SECOND_KEY}}",
        4,
        "gateway_keys[1].name",
        "the name of gateway_keys[0] too",
    ),
    (
        BASE + f"gateway_keys:\n- {{name: a, hash: '{HASH}'}}\n- {{name: b, hash: '{HASH}'}}",
        4,
        "gateway_keys[1]",
        "the same key as gateway_keys[0]",
    ),
    (
        BASE + f"routes: {{chat: {{chain: [openai/x]}}}}\ngateway_keys: [{{name: a, hash: '{HASH}', route: chta}}]",
        3,
        "gateway_keys[0].route",
        "unknown route 'chta'; did you mean 'chat'?",
    ),
]


@pytest.mark.parametrize(("text", "line", "field", "words"), WRONG, ids=lambda value: str(value)[-40:])
def test_one_mistake_is_one_error(
    folder: Folder, text: str | bytes, line: int | None, field: str | None, words: str
) -> None:
    ((found_line, found_field, message),) = folder.errors(text)
    assert (found_line, found_field) == (line, field)
    assert words in message


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(folder: Folder) -> None:
    found = folder.errors(
        """\
server: {listen: nowhere, prot: 1}
providers:
  openai:
    api_keys: [sk-abcdefghijklmnop, env:NOT_SET]
    idle_timeout: never
  anthropic: {}
routes:
  chat:
    chain: [opnai/a, openai/b, openai/b, {pool: x}]
    commit: soon
"""
    )
    assert [(line, field) for line, field, _ in found] == [
        (1, "server.listen"),
        (1, "server.prot"),
        (4, "providers.openai.api_keys[0]"),
        (4, "providers.openai.api_keys[1]"),
        (5, "providers.openai.idle_timeout"),
        (9, "routes.chat.chain[3].pool"),
        (9, "routes.chat.chain[0]"),
        (9, "routes.chat.chain[2]"),
        (10, "routes.chat.commit"),
    ]


def test_a_broken_provider_makes_no_error_in_the_chains_that_name_it(folder: Folder) -> None:
    found = folder.errors("providers: {x: {dialect: openai}}\nroutes: {r: {chain: [x/a, b]}}")
    assert [field for _, field, _ in found] == ["providers.x"]


def test_a_bare_model_that_several_providers_have_is_ambiguous(folder: Folder) -> None:
    known = facts({("groq", "llama"): ModelFacts(), ("cerebras", "llama"): ModelFacts()})
    environ = {**ENVIRON, "GROQ_API_KEY": "k", "CEREBRAS_API_KEY": "k"}
    text = "providers: {groq: {}, cerebras: {}}\nroutes: {r: {chain: [llama]}}"
    ((line, field, message),) = folder.errors(text, environ, known)
    assert (line, field) == (2, "routes.r.chain[0]")
    assert "write groq/llama or cerebras/llama" in message


def test_a_model_id_with_a_slash_is_recognised(folder: Folder) -> None:
    known = facts({("groq", "openai/gpt-oss-120b"): ModelFacts()})
    text = "providers: {groq: {api_keys: [env:SECOND_KEY]}}\nroutes: {r: {chain: [openai/gpt-oss-120b]}}"
    ((_, _, message),) = folder.errors(text, facts=known)
    assert "did you mean 'groq/openai/gpt-oss-120b'?" in message


@pytest.mark.parametrize(
    "text",
    [
        "providers: {openai: {api_keys: [%s]}}",
        "providers: {openai: {api_keys: ['${LEAK}']}}",
        "providers: {openai: {api_keys: %s}}",
        "providers: {openai: {api_keys: {a: %s}}}",
        "providers: {openai: {api_keys: [{key: %s, account: a}]}}",
        "providers: {openai: {api_keys: [{key: env:X, account: '%s!'}]}}",
        "providers: {openai: %s}",
        "providers: {openai: {api_keys: ['env:%s!']}}",
        "providers: {openai: {base_url: 'https://x:%s@host/v1'}}",
        "providers: {openai: {base_url: 'https://host/v1?key=%s'}}",
        BASE + "gateway_keys: [{name: a, key: %s}]",
        BASE + "gateway_keys: [{name: a, hash: %s}]",
        BASE + "log: {level: '${LEAK}'}",
        BASE + "limits: {body_bytes: '${LEAK}'}",
        BASE + "server: {listen: '${LEAK}'}",
        BASE + "routes: {r: {chain: [openai/x], commit: '${LEAK}', validate: {match: '(${LEAK}'}}}",
        "providers: {openai: {api_keys: [env:BAD]}}",
    ],
)
def test_no_error_holds_a_secret(folder: Folder, text: str) -> None:
    secret = "sk-verysecretvalue0123456789"
    environ = {**ENVIRON, "LEAK": secret, "BAD": f"{secret} {secret}"}
    found = folder.errors(text.replace("%s", secret), environ)
    assert found
    assert secret not in repr(found)


def test_plain_secrets_are_refused_with_a_hint(folder: Folder) -> None:
    ((_, _, message),) = folder.errors("providers: {openai: {api_keys: [sk-0123456789abcdef]}}")
    assert "env:VARIABLE or file:PATH" in message


def test_aliases_that_stand_for_billions_are_refused(folder: Folder) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    ((line, _, message),) = folder.errors("\n".join(lines))
    assert "fewer aliases" in message
    assert line is not None


@pytest.mark.parametrize("first", ["a: &a {k: 1}", "a: &a {}"])
def test_merges_that_stand_for_billions_are_refused(folder: Folder, first: str) -> None:
    lines = [first]
    for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True):
        lines.append(f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 9)}]}}")
    ((_, _, message),) = folder.errors("\n".join(lines))
    assert "fewer aliases" in message


def test_more_values_than_any_configuration_has_are_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfade.config.lines.MAX_VALUES", 20)
    ((_, _, message),) = folder.errors("a:\n" + "- x\n" * 100)
    assert "more than 20 values" in message


def test_a_mistake_in_an_anchored_mapping_is_told_once(folder: Folder) -> None:
    text = "providers:\n  openai: &base {idle_timeout: ${NOT_SET}}\n  anthropic: {<<: *base}"
    assert len(folder.errors(text.replace("${NOT_SET}", "'${NOT_SET}'"))) == 1


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read") as caught:
        load_config(tmp_path / name, ENVIRON, VENDORS)
    assert caught.value.errors[0].file == str(tmp_path / name)


def test_errors_are_printed_as_editors_read_them(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path)
    Path("crossfade.yaml").write_text(BASE + "routes:\n  chat:\n    chain: [anthropic/a, opnai/b]\n")
    with pytest.raises(ConfigErrors) as caught:
        load_config(Path("crossfade.yaml"), ENVIRON, VENDORS)
    line = "crossfade.yaml:4: routes.chat.chain[1]: unknown provider 'opnai'; did you mean 'openai'?"
    assert str(caught.value) == line


def test_places_with_dots_are_quoted() -> None:
    assert dotted(("routes", "gpt-5.4", "chain", 1)) == 'routes."gpt-5.4".chain[1]'


# --- whatever is in the file, it is a configuration or a list of errors -----------------------------------------

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["openai/x", "env:SECOND_KEY", "2s", "${HOME}", "*", "openai", "first_content"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


FULL = EXAMPLE + "limits: {head_bytes: 1}\nlog: {level: info}\njournal: {path: x}\nstate_dir: y\n"
FULL = FULL.replace(
    "commit: complete",
    "commit: complete\n    validate: {min_chars: 1}\n    retry: {max_wait: 0}\n    allow: [openai/*]\n    hold: []",
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_places(yaml.safe_load(FULL))), VALUES)
def test_any_value_anywhere_is_read_or_refused(folder: Folder, place: tuple[object, ...], value: object) -> None:
    tree = yaml.safe_load(FULL)
    if not place:
        tree = value
    else:
        around = tree
        for key in place[:-1]:
            around = around[key]
        around[place[-1]] = value
    _load(folder, yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, len(FULL)))
def test_any_bytes_are_read_or_refused(folder: Folder, noise: bytes, at: int) -> None:
    _load(folder, FULL[:at].encode() + noise + FULL[at:].encode())


def _load(folder: Folder, data: bytes) -> None:
    errors: tuple[ConfigError, ...] = ()
    try:
        folder.load(data)
    except ConfigErrors as error:
        errors = error.errors
    assert all(type(one) is ConfigError and one.file and one.message for one in errors)
    assert not any("\n" in str(one) for one in errors), "one line each"
