"""Pulsar's C++ client, rewritten for virtual time: what ``pulsar`` and ``pulsar.asyncio`` are built on, and nothing above.

The Python half of the library is real, and so is the provider. In a run, and only there, ``_pulsar.Client`` makes a client of
this package, which says to the simulated broker what the C++ client would say, command by command; the broker's side
is the one that the real client meets on the wire tier. Where a behaviour is copied, the C++ class is named.
"""
