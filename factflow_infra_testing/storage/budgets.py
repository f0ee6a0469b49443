"""How often storage may fail in one run of a swarm, whichever storage it is.

The default ``ErrorHandling`` gives up on a message after four failed handlings. A correct service that files what it gets
must come through a search with it, so storage faults alone never make four calls of a run fail. A provider repeats what is
worth repeating, four attempts in all, so ``ABSORBED`` faults surface once at most; ``SURFACING`` ones surface each time.
"""

from __future__ import annotations

from typing import Final

from factflow_infra_testing.search.kinds import Budget

ABSORBED: Final = Budget("storage, repeated by the provider", 7)
SURFACING: Final = Budget("storage, surfacing", 2)
