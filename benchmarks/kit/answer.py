"""What a script found out: as a Markdown table, as JSON, as a picture."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .rounds import Spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COLOURS: Final = ("#2a8a5c", "#808080", "#3b6ea5", "#d08a2c", "#b03030", "#7a5ea8", "#3a9ea5")


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached, and what was found."""

    name: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the picture: a bar with its spread for each contender."""

    title: str
    unit: str
    bars: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script found out.

    Attributes:
        name: of the script, and of the files.
        question: in a line.
        how: what was measured and with which settings, in Markdown.
        header, rows: the table.
        targets: what was to be reached.
        panels: the picture.
        figures: every round's, for JSON.
    """

    name: str
    question: str
    how: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target]
    panels: Sequence[Panel]
    figures: Mapping[str, Any]
    machine: str
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())

    def markdown(self) -> str:
        """Return the table and all that belongs to it."""
        lines = [f"# {self.question}", "", self.how, "", *table(self.header, self.rows), ""]
        lines += [
            f"- {'reached' if target.holds else '**missed**'}: {target.name}: {target.found}"
            for target in self.targets
        ]
        lines += ["", f"{self.date}, {self.machine}. Median (lowest to highest) of the rounds."]
        lines += ["", f"![{self.question}]({self.name}.png)", ""] if self.panels else [""]
        return "\n".join(lines)

    def json(self) -> str:
        """Return all of it, with every round's figures."""
        return json.dumps(dataclasses.asdict(self), indent=1, default=float)

    def write(self, directory: Path) -> None:
        """Leave NAME.md, NAME.json and NAME.png."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{self.name}.md").write_text(self.markdown())
        (directory / f"{self.name}.json").write_text(self.json() + "\n")
        if self.panels:
            draw(self, directory / f"{self.name}.png")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table's lines."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def draw(answer: Answer, path: Path) -> None:
    """Write one PNG: a panel beside the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = answer.panels
    names = list(dict.fromkeys(name for panel in panels for name in panel.bars))
    height = 1.6 + 0.42 * max(len(panel.bars) for panel in panels)
    figure = Figure(figsize=(max(9.0, 5.2 * len(panels)), height), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        spreads = [Spread.of(values) for values in panel.bars.values()]
        # What never came has no bar; what came in some rounds has no end to its spread.
        middles = [s.median if math.isfinite(s.median) else 0 for s in spreads]
        errors = [
            [max(0, middle - s.low) for middle, s in zip(middles, spreads, strict=True)],
            [
                s.high - middle if math.isfinite(s.high) else 0
                for middle, s in zip(middles, spreads, strict=True)
            ],
        ]
        colours = [_COLOURS[names.index(name) % len(_COLOURS)] for name in panel.bars]
        axes.barh(list(panel.bars), middles, xerr=errors, color=colours, capsize=3)
        axes.bar_label(axes.containers[-1], [f" {s.median:.3g}" for s in spreads])
        axes.invert_yaxis()
        axes.set_title(panel.title)
        axes.set_xlabel(panel.unit)
        axes.margins(x=0.18)
        axes.grid(axis="x", alpha=0.25)
    figure.suptitle(f"{answer.question} — {answer.date}, {answer.machine}", fontsize=11)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


def machine(pipewire: str) -> str:
    """Name this one: its cores and its PipeWire."""
    return f"{os.cpu_count()} cores, PipeWire {pipewire}"
