"""Rounds, medians and how they are printed.

What is compared takes turns within a round, so that whatever else the machine does hits all of them, and ratios are
taken within a round before the median is.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Rate", "Report", "by_cpu", "rotated"]

_NOISY = 1.15


class Rate(NamedTuple):
    """How fast something went."""

    second: float
    """Rows a second."""
    cpu: float
    """Rows for each second of CPU, the client's and the server's together: the same when the machine is busy."""

    def times(self, rows: int) -> "Rate":
        """The same when each time dealt with so many rows."""
        return Rate(self.second * rows, self.cpu * rows)


def _noise(values: Sequence[float]) -> str:
    return "~" if max(values) > _NOISY * min(values) else ""


def by_cpu(cell: str) -> str:
    """The name of a cell whose rates are by CPU."""
    return f"{cell}, by CPU"


def rotated(subjects: Sequence[str], number: int) -> list[str]:
    """The subjects in the order of a round: each round begins with another one."""
    start = number % len(subjects)
    return [*subjects[start:], *subjects[:start]]


@dataclass(slots=True, kw_only=True)
class Report:
    """What was measured, printed as it comes and kept for `--json`."""

    rounds: int
    say: Callable[[str], None]
    raw: list[dict[str, object]] = field(default_factory=list)
    _values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def add(self, cell: str, subject: str, value: float, number: int) -> None:
        """Keep the rate of a subject in a cell in one round."""
        self._values.setdefault((cell, subject), []).append(value)
        self.raw.append({"cell": cell, "subject": subject, "round": number, "rate": value})

    def ratio(self, cell: str, subject: str, base: str) -> float:
        """The median over the rounds of a subject's rate by that of the base."""
        return statistics.median(self._ratios(cell, subject, base))

    def has(self, cell: str, subject: str) -> bool:
        """Whether the subject was measured in this cell."""
        return (cell, subject) in self._values

    def cells(self, subject: str) -> list[str]:
        """The cells in which the subject was measured, in the order they came."""
        return [cell for cell, measured in self._values if measured == subject]

    def table(self, cell: str, base: str, *, unit: str = "/s") -> None:
        """Print a cell: each subject's median, its ratio to the base (least and greatest of the rounds)."""
        self.say(f"\n{cell}")
        for subject in self._subjects(cell):
            ratios = self._ratios(cell, subject, base)
            span = f"({min(ratios):.2f}-{max(ratios):.2f})" if subject != base else ""
            self.say(f"  {self._rate(cell, subject, unit)}  x {statistics.median(ratios):<6.3g}{span}".rstrip())

    def compare(
        self, cell: str, ours: str, wanted: Mapping[str, float], *, unit: str = "/s", notes: Mapping[str, str]
    ) -> None:
        """Print a cell: each subject's median, ours in times of it (least and greatest), the target, a note.

        Args:
            cell: what was measured.
            ours: the subject that the others are compared with.
            wanted: the least ratio that is aimed at, for each subject that has one.
            unit: of the rates.
            notes: words after a subject's line.
        """
        self.say(f"\n{cell}")
        for subject in self._subjects(cell):
            line = f"  {self._rate(cell, subject, unit)}"
            if subject != ours:
                ratios = self._ratios(cell, ours, subject)
                span = f"({min(ratios):.2f}-{max(ratios):.2f})"
                line += f"  ours x {statistics.median(ratios):.3g}{_noise(ratios)}".ljust(16) + span.ljust(16)
            if subject in wanted and self.has(cell, ours):
                line += (
                    self._judge(f"{cell}, ours / {subject}", self.ratio(cell, ours, subject), wanted[subject]) + "  "
                )
            self.say((line + notes.get(subject, "")).rstrip())

    def target(self, text: str, value: float, wanted: float) -> None:
        """Print a target and whether it is met."""
        self.say(f"target: {text}: {value:.2f}, {self._judge(text, value, wanted)}")

    def _judge(self, text: str, value: float, wanted: float) -> str:
        met = value >= wanted
        self.raw.append({"target": text, "value": value, "wanted": wanted, "met": met})
        return f"wanted {wanted:g}: {'met' if met else 'MISSED'}"

    def _subjects(self, cell: str) -> list[str]:
        return [subject for of, subject in self._values if of == cell]

    def _rate(self, cell: str, subject: str, unit: str) -> str:
        values = self._values[cell, subject]
        return f"{subject:<28}{statistics.median(values):>10,.0f}{unit}{_noise(values) or ' '}"

    def progress(self, number: int) -> None:
        """Say how far the rounds are."""
        self.say(f"  round {number + 1} of {self.rounds} done, {time.monotonic() - self._began:.0f} s")

    def write(self, path: Path) -> None:
        """Write every single measurement as JSON."""
        path.write_text(json.dumps(self.raw, indent=1))

    def _ratios(self, cell: str, subject: str, base: str) -> list[float]:
        return [value / by for value, by in zip(self._values[cell, subject], self._values[cell, base], strict=True)]
