"""Record what real brokers answer to single STOMP requests: ``python tests/live/record_stomp.py PROFILE``.

It starts a broker of its own, and writes the file beside ``tests/wire/stomp/stomp_requests.py`` that the tests compare with.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import compare_stomp
import stomp_requests


def asked(server: Any, profile: str, only: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a running server answers; of Java's stacks only the first line."""
    found = stomp_requests.answers(
        lambda: stomp_requests.Socket(getattr(server, compare_stomp.BROKERS[profile].port)),
        server.user,
        server.password,
        stomp_requests.ASKED[profile] if only is None else only,
        host=stomp_requests.HOSTS[profile],
    )
    return {name: [_short(frame) for frame in frames] for name, frames in found.items()}


def _short(frame: Any) -> Any:
    if frame == "closed" or frame[0] != "ERROR":
        return frame
    return [*frame[:-1], frame[-1].partition("\n")[0]]


def main(profile: str) -> int:
    row = compare_stomp.BROKERS[profile]
    module = importlib.import_module(f"servers.{row.module}")
    with tempfile.TemporaryDirectory() as folder:
        server = getattr(module, row.kind)(Path(folder) / row.module)
        server.start()
        try:
            text = json.dumps(asked(server, profile), indent=1, ensure_ascii=False)
        finally:
            server.kill()
    stomp_requests.recorded(profile).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
