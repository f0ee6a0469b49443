"""Fuzz the AMQP codec and front end with atheris: ``python tests/fuzz/amqp.py -max_total_time=600 [CORPUS]``.

Arguments are libFuzzer's. A crash, an exception that nobody took, a hang (``-timeout``) or memory past ``-rss_limit_mb`` ends it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["factflow_infra_testing.wire.amqp", "pamqp"]):
    from factflow_infra_testing.wire.amqp.errors import ConnectionFailedError
    from factflow_infra_testing.wire.amqp.frames import HEADER, METHOD, Cutter, read_header, read_method
    from factflow_infra_testing.wire.amqp.frontend import AmqpFrontEnd

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import LOGGED_IN_AMQP, Served, arguments, parts_of

FRAME_MAX = 4096


def one_input(data: bytes) -> None:
    if not data:
        return
    how, *parts = parts_of(data)
    if how % 4 == 0:
        cutter = Cutter(FRAME_MAX)
        try:
            for part in parts:
                for kind, _, payload in cutter.feed(part):
                    if kind == METHOD:
                        read_method(payload)
                    elif kind == HEADER:
                        read_header(payload)
        except ConnectionFailedError:
            pass
        return
    served = Served("rabbitmq-quorum", AmqpFrontEnd)
    served.talk([LOGGED_IN_AMQP, *parts] if how % 4 > 1 else parts)


if __name__ == "__main__":
    atheris.Setup(arguments(sys.argv, "amqp/test_amqp_fuzz"), one_input)
    atheris.Fuzz()
