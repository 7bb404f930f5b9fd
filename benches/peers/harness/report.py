"""Ratios of interleaved measurements, as numbers and as a Markdown table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .contenders import Rates
from .workloads import Workload

CONFIDENCE = 0.90


@dataclass
class Series:
    """One contender's measurements of a workload, one a round."""

    rounds: list[Rates] = field(default_factory=list)

    @property
    def variant(self) -> str:
        """The fastest variant."""
        return max(self.rounds[0], key=self._best)

    def _best(self, variant: str) -> float:
        return max(max(rates[variant]) for rates in self.rounds)

    @property
    def best(self) -> float:
        """The best rate of all rounds."""
        return self._best(self.variant)

    @property
    def medians(self) -> list[float]:
        """The median rate of each round."""
        return [statistics.median(rates[self.variant]) for rates in self.rounds]


@dataclass(frozen=True)
class Interval:
    """A median with its confidence interval from order statistics, and the extremes."""

    median: float
    low: float
    high: float
    least: float
    greatest: float

    @staticmethod
    def of(values: Sequence[float]) -> Interval:
        """Of at least one value; the interval is the narrowest symmetric one of at least 90 %, or all of few values."""
        ordered = sorted(values)
        n = len(ordered)
        cut, outside = 0, 2 * 0.5**n
        while outside + 2 * math.comb(n, cut + 1) * 0.5**n <= 1 - CONFIDENCE and 2 * (cut + 1) < n:
            cut += 1
            outside += 2 * math.comb(n, cut) * 0.5**n
        return Interval(statistics.median(ordered), ordered[cut], ordered[n - 1 - cut], ordered[0], ordered[-1])


@dataclass(frozen=True)
class Comparison:
    """Ours against one peer on one workload: ours divided by theirs."""

    peer: str
    variant: str
    peer_best: float
    peer_median: float
    best_ratio: float
    # Of the medians of each pair.
    median_ratio: Interval


def compare(ours: Series, peers: dict[str, Series]) -> list[Comparison]:
    """Ours against each peer that was measured as often."""
    rows = []
    for name, peer in peers.items():
        ratios = [a / b for a, b in zip(ours.medians, peer.medians, strict=True)]
        rows.append(Comparison(name, peer.variant, peer.best, statistics.median(peer.medians), ours.best / peer.best, Interval.of(ratios)))
    return rows


def as_json(workload: Workload, ours: Series | None, peers: dict[str, Series]) -> dict[str, Any]:
    """Everything that was measured of a workload, and the ratios."""

    def series(one: Series) -> dict[str, Any]:
        return {
            "variant": one.variant,
            "best": one.best,
            "median": statistics.median(one.medians),
            "rounds": [
                {name: {"best": max(r), "median": statistics.median(r), "samples": len(r)} for name, r in rates.items()}
                for rates in one.rounds
            ],
        }

    return {
        "name": workload.name,
        "group": workload.group,
        "unit": workload.unit,
        "ours": series(ours) if ours else None,
        "peers": {name: series(one) for name, one in peers.items()},
        "ratios": [asdict(row) for row in compare(ours, peers)] if ours else [],
    }


def number(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def markdown(measured: list[tuple[Workload, Series | None, dict[str, Series]]]) -> str:
    """The table: one line for each workload and peer."""
    lines = [
        "| workload | Ganymede: best (median) | peer | peer: best (median) | unit | ratio of best | ratio of medians [90 % interval] |",
        "|---|---|---|---|---|---|---|",
    ]
    for workload, ours, peers in measured:
        own = f"{number(ours.best)} ({number(statistics.median(ours.medians))})" if ours else "not measured"
        rows = {row.peer: row for row in compare(ours, peers)} if ours else {}
        for name, peer in peers.items():
            shown = name if peer.variant in name or peer.variant == "default" else f"{name}, {peer.variant}"
            theirs = f"{number(peer.best)} ({number(statistics.median(peer.medians))})"
            ratios = "- | -"
            if row := rows.get(name):
                spread = row.median_ratio
                ratios = f"{row.best_ratio:.2f} | {spread.median:.2f} [{spread.low:.2f}, {spread.high:.2f}]"
            lines.append(f"| `{workload.name}` | {own} | {shown} | {theirs} | {workload.unit} | {ratios} |")
        if not peers:
            lines.append(f"| `{workload.name}` | {own} | none | | {workload.unit} | - | - |")
    return "\n".join(lines) + "\n"
