"""Contenders take turns, round after round; what is told are medians, spreads and ratios."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEAST_ROUNDS: Final = 5

Case = TypeVar("Case")
Figure = TypeVar("Figure")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value or more."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        """As in a table: the median and, in brackets, the lowest and the highest."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Turns(Generic[Case, Figure]):
    """What each case gave in each round."""

    figures: dict[Case, list[Figure]]

    def __getitem__(self, case: Case) -> list[Figure]:
        return self.figures[case]

    def spread(self, case: Case, of: Callable[[Figure], float]) -> Spread:
        """Of one number of a case."""
        return Spread.of([of(figure) for figure in self.figures[case]])

    def ratio(self, case: Case, to: Case, of: Callable[[Figure], float]) -> Spread:
        """Of one case to another, each taken within its round."""
        pairs = zip(self.figures[case], self.figures[to], strict=True)
        return Spread.of([of(one) / of(other) for one, other in pairs])

    def difference(self, case: Case, to: Case, of: Callable[[Figure], float]) -> Spread:
        """Of one case to another, each taken within its round."""
        pairs = zip(self.figures[case], self.figures[to], strict=True)
        return Spread.of([of(one) - of(other) for one, other in pairs])


def take_turns(
    cases: Sequence[Case], measure: Callable[[Case], Figure], rounds: int, what: str
) -> Turns[Case, Figure]:
    """Measure each case in each round; who begins changes from round to round."""
    figures: dict[Case, list[Figure]] = {case: [] for case in cases}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        task = progress.add_task(what, total=rounds * len(cases))
        for turn in range(rounds):
            first = turn % len(cases)
            for case in (*cases[first:], *cases[:first]):
                progress.update(task, description=f"{what}: round {turn + 1}, {case}")
                figures[case].append(measure(case))
                progress.advance(task)
    return Turns(figures)
