"""Fuzz the STOMP codec and front end with atheris: ``python tests/fuzz/stomp.py -max_total_time=600 [CORPUS]``.

Arguments are libFuzzer's. A crash, an exception that nobody took, a hang (``-timeout``) or memory past ``-rss_limit_mb`` ends it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["factflow_infra_testing.wire.stomp"]):
    from factflow_infra_testing.wire.stomp import StompFrontEnd
    from factflow_infra_testing.wire.stomp.errors import MalformedError
    from factflow_infra_testing.wire.stomp.frames import Cutter

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import LOGGED_IN_STOMP, Served, arguments, parts_of

VERSIONS = ("1.0", "1.1", "1.2")


def one_input(data: bytes) -> None:
    if not data:
        return
    how, *parts = parts_of(data)
    if how % 4 == 0:
        cutter = Cutter()
        cutter.version = VERSIONS[how // 4 % 3]
        try:
            for part in parts:
                for _ in cutter.feed(part):
                    pass
        except MalformedError:
            pass
        return
    served = Served("artemis", StompFrontEnd)
    served.talk([LOGGED_IN_STOMP, *parts] if how % 4 > 1 else parts)


if __name__ == "__main__":
    atheris.Setup(arguments(sys.argv, "stomp/test_stomp_fuzz"), one_input)
    atheris.Fuzz()
