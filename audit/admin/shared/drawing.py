"""Small drawings in SVG, whose every size is an attribute: no page has a style of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

__all__ = ["line", "meter", "sparkline"]

_METER = (
    '<svg class="audit-meter" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
    '<rect class="audit-track" width="100" height="8" rx="1"/>{bar}</svg>'
)
_SPARKLINE = (
    '<svg class="audit-spark" viewBox="0 0 {width} 100" preserveAspectRatio="none" role="img" aria-label="{label}">'
    '<title>{label}</title><line class="audit-grid audit-ground" x1="0" x2="{width}" y1="100" y2="100"/>{lines}</svg>'
)


def meter(ratio: float, tone: str) -> SafeString:
    """Draw a bar that is filled up to a ratio.

    Args:
        ratio: from 0 to 1.
        tone: the class of its colour, a status.
    """
    width = f"{min(max(ratio, 0.0), 1.0) * 100:.1f}"
    bar = format_html('<rect class="f-{tone}" width="{width}" height="8" rx="1"/>', tone=tone, width=width)
    return format_html(_METER, bar=bar)


def sparkline(lines: Sequence[tuple[str, Sequence[float | None]]], label: str) -> SafeString:
    """Draw ratios over time, one value a unit; where nobody knows, there is a gap.

    Args:
        lines: of each the class of its colour, and its values from 0 to 1.
        label: what it says to who cannot see it.
    """
    width = max(len(values) for _tone, values in lines)
    drawn = format_html_join(
        "",
        '<path class="audit-line l-{}" d="{}"/>',
        (
            (tone, line([(at + 0.5, 100 - each * 100) if each is not None else None for at, each in enumerate(values)]))
            for tone, values in lines
        ),
    )
    return format_html(_SPARKLINE, width=width, label=label, lines=drawn)


def line(points: Sequence[tuple[float, float] | None], width: float = 1) -> str:
    """Write the path of a line through points, with a gap for each None; a point alone is a dash as long as `width`."""
    return " ".join(_moves(points, width / 2))


def _moves(points: Sequence[tuple[float, float] | None], half: float) -> Iterator[str]:
    before: tuple[float, float] | None = None
    for number, point in enumerate(points):
        if point is not None:
            x, y = point
            after = points[number + 1] if number + 1 < len(points) else None
            if before is None:
                # A line of no length is not drawn.
                yield f"M{x - half:.2f} {y:.2f}H{x + half:.2f}" if after is None else f"M{x:.2f} {y:.2f}"
            else:
                yield f"L{x:.2f} {y:.2f}"
        before = point
