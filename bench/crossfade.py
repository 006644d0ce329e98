"""crossfade as it is measured: the configuration, and the two ways to start it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.apis import UPSTREAMS
from bench.content import GATEWAY_KEY, MODEL, UPSTREAM_KEY

ENVIRON: Final = {"BENCH_GATEWAY_KEY": GATEWAY_KEY, "BENCH_UPSTREAM_KEY": UPSTREAM_KEY}

_CONFIG: Final = """
server: {{listen: 127.0.0.1:{port}, admin: 127.0.0.1:{admin}, auth: keys}}
gateway_keys: [{{name: bench, key: env:BENCH_GATEWAY_KEY}}]
state_dir: {state}
providers:
  good: {{dialect: openai, base_url: http://127.0.0.1:{good}/v1, api_keys: [env:BENCH_UPSTREAM_KEY]}}
  bad: {{dialect: openai, base_url: http://127.0.0.1:{bad}/v1, api_keys: [env:BENCH_UPSTREAM_KEY]}}
  events: {{dialect: openai, base_url: http://127.0.0.1:{events}/v1, api_keys: [env:BENCH_UPSTREAM_KEY]}}
  first: {{dialect: openai, base_url: http://127.0.0.1:{first}/v1, api_keys: [env:BENCH_UPSTREAM_KEY]}}
{providers}
routes:
  plain: {{chain: [good/{model}, bad/{model}]}}
  fallback: {{chain: [bad/{model}, good/{model}], retry: {{delay: 0}}}}
  events: {{chain: [events/{model}, good/{model}]}}
  first: {{chain: [first/{model}, good/{model}]}}
{routes}
"""


def config(folder: Path, *, port: int, admin: int, good: int, bad: int, events: int, first: int) -> Path:
    """Writes the configuration: keys, journal, validation as they are by default; one route a measurement, and two,
    `whole-API` and `events-API`, for each API that an upstream speaks."""
    file = folder / f"crossfade-{port}.yaml"
    ports = {"port": port, "admin": admin, "good": good, "bad": bad, "events": events, "first": first}
    kinds = {"whole": good, "events": events}
    providers = [
        f"  {kind}-{name}: {{dialect: {api.dialect}, base_url: 'http://127.0.0.1:{where}{api.base}', "
        "api_keys: [env:BENCH_UPSTREAM_KEY]}"
        for kind, where in kinds.items()
        for name, api in UPSTREAMS.items()
    ]
    routes = [f"  {kind}-{name}: {{chain: [{kind}-{name}/{MODEL}]}}" for kind in kinds for name in UPSTREAMS]
    more = {"providers": "\n".join(providers), "routes": "\n".join(routes)}
    file.write_text(_CONFIG.format(state=folder / f"state-{port}", model=MODEL, **more, **ports))
    return file


def serve(python: Path, file: Path) -> list[str]:
    """The command that everybody uses, of the installation that `python` belongs to."""
    return [str(python.with_name("crossfade")), "serve", "--config", str(file)]


def serve_without_breaker(python: Path, file: Path) -> list[str]:
    """The same but for the breaker, which never opens: each request makes both calls."""
    return [str(python), "-m", "bench.worker", str(file)]
