"""nginx twice: as the upstream with constant answers, and as the plain reverse proxy that crossfade is compared with.

The proxy is set up as one would for speed: one worker, connections kept on both sides, no access log.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from bench.apis import UPSTREAMS
from bench.content import UPSTREAM_HEADERS, answer_body, failure_body
from bench.machine import which

_ENDLESS: Final = 1_000_000_000
_FRAME: Final = """
daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log stderr crit;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests {endless};
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
    {http}
}}
"""


def command(folder: Path, name: str, http: str) -> list[str]:
    """The command of an nginx whose `http` block holds `http`; its files are in `folder`."""
    file = folder / f"{name}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(_FRAME.format(folder=folder, name=name, user=user, endless=_ENDLESS, http=http))
    return [which("nginx") or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(file)]


def upstream(good: int, bad: int, status: int) -> str:
    """The `http` block of the upstream: `good` answers, in the API that it is asked by, `bad` always answers 500,
    `status` counts the requests."""
    headers = "".join(f'add_header {name} "{value}" always;\n' for name, value in UPSTREAM_HEADERS.items())
    constant = "default_type application/json;\n" + headers
    others = "".join(
        f"location ~ {api.marks} {{ return 200 '{json.dumps(api.answer())}'; }}\n"
        for name, api in UPSTREAMS.items()
        if name != "chat"
    )
    return f"""
    server {{ listen 127.0.0.1:{good}; {constant} {others} location / {{ return 200 '{answer_body().decode()}'; }} }}
    server {{ listen 127.0.0.1:{bad}; {constant} location / {{ return 500 '{failure_body().decode()}'; }} }}
    server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }}
    """


def proxy(ports: dict[str, int], good: int, bad: int, events: int, first: int) -> str:
    """The `http` block of the reverse proxy: one server for each of the four measurements, at `ports`."""
    return f"""
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream good {{ server 127.0.0.1:{good}; {_KEEP} }}
    upstream chain {{ server 127.0.0.1:{bad} max_fails=0; server 127.0.0.1:{good} max_fails=0 backup; {_KEEP} }}
    upstream events {{ server 127.0.0.1:{events}; {_KEEP} }}
    upstream first {{ server 127.0.0.1:{first}; {_KEEP} }}
    server {{ listen 127.0.0.1:{ports["plain"]}; location / {{ proxy_pass http://good; }} }}
    server {{
        listen 127.0.0.1:{ports["fallback"]};
        location / {{ proxy_pass http://chain; proxy_next_upstream error timeout http_500 non_idempotent; }}
    }}
    server {{ listen 127.0.0.1:{ports["events"]}; location / {{ proxy_pass http://events; proxy_buffering off; }} }}
    server {{ listen 127.0.0.1:{ports["first"]}; location / {{ proxy_pass http://first; proxy_buffering off; }} }}
    """


_KEEP: Final = f"keepalive 64; keepalive_requests {_ENDLESS}; keepalive_timeout 600s;"
