"""``python -m tests.live.servers`` fetches what the live suite starts and no package brings, ahead of the tests and their time limit."""

from __future__ import annotations

import sys

from . import artemis, pulsar

sys.exit("\n".join(filter(None, (servers.missing() for servers in (artemis, pulsar)))) or None)
