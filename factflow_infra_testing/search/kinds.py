"""What a kind of fault is, as data: the registry's row, which the search, the reports and the documentation read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Kinds that share a budget (its ``name``) strike at most ``most`` times between them in one run of a swarm.

    For faults that surface as errors of single calls: without a bound, long runs of them use up the retries of any service,
    and nothing else is found. A plan that somebody writes is not bounded.
    """

    name: str
    most: int


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of choice that a simulated part can make against the code under test.

    ``choices`` names the deviant choices, mildest first: choice 1 is ``choices[0]``. A kind whose part asks for more
    choices than are named here (a delay in steps) is shown by number beyond them. ``rate`` is the usual share, 0 to 1,
    of its decisions that deviate where the kind is on; a swarm varies it. ``meaning`` is one line for a person. ``budget``
    bounds how often it strikes in one run of a swarm. ``part`` names what it strikes, where not every scenario has that
    (``s3``, ``filesystem``): in a search without S3 its kinds would only take the place of others.
    ``tires``: each strike makes the next on that target half as likely, for what would else end a run over and over again at
    the same point. ``steps``: its ordinals count steps of the event loop, which other versions take more or fewer of.
    """

    kind: str
    choices: tuple[str, ...]
    meaning: str
    rate: float
    budget: Budget | None = None
    part: str = ""
    tires: bool = False
    steps: bool = False

    def __post_init__(self) -> None:
        if not self.kind or self.kind != self.kind.strip().lower():
            raise ValueError(f"A fault kind is a lower-case word such as 'ack-lost', got {self.kind!r}.")
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"The rate of fault kind {self.kind!r} must be above 0 and at most 1, got {self.rate!r}.")

    def describe(self, choice: int) -> str:
        """The kind with the name of ``choice``, for a report: ``kill (silent)``."""
        if 1 <= choice <= len(self.choices):
            return f"{self.kind} ({self.choices[choice - 1]})"
        return self.kind if choice == 1 and not self.choices else f"{self.kind} (choice {choice})"
