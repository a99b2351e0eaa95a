"""Curves as SVG: accuracy against tokens written, one line per method."""

from collections.abc import Mapping, Sequence
from html import escape

from tutelage.tracking.report import palette

_WIDTH, _HEIGHT = 640, 260
_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 10, 170, 34
"""Margins in pixels; the legend stands in the right one."""
_LINE = 15
_DASHES = ("", "6 3", "2 2", "6 2 2 2")

Path = Sequence[tuple[float, float]]
"""Points of tokens and accuracy."""


def draw(curves: Mapping[str, Path], *, title: str, reference: float | None = None) -> str:
    """A picture that follows the page's colours.

    Args:
        curves: By name, each of at least one point.
        title: For those who cannot see it.
        reference: The teacher's accuracy, as a thin line.
    """
    most = max((tokens for path in curves.values() for tokens, _ in path), default=1.0) or 1.0
    parts = [_axes(most)]
    if reference is not None:
        level = _y(reference)
        parts.append(f'<path d="M{_LEFT} {level:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" stroke-dasharray="1 3"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{level + 4:.1f}" opacity=".7">teacher</text>' if level < 20 else "")
    for place, (name, path) in enumerate(curves.items()):
        parts.append(_curve(place, name, path, most))
    label = escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" font-size="11" fill="currentColor" '
        f'font-family="inherit">{"".join(parts)}</svg>'
    )


def _axes(most: float) -> str:
    parts = [f'<path d="M{_LEFT} {_TOP}V{_y(0.0)}H{_WIDTH - _RIGHT}" fill="none" stroke="currentColor"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<text x="{_LEFT - 5}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
        tokens = most * share
        parts.append(f'<text x="{_x(tokens, most):.1f}" y="{_y(0.0) + 14}" text-anchor="middle">{tokens / 1000:.0f}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return "".join([*parts, f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">thousand tokens written</text>'])


def _curve(place: int, name: str, path: Path, most: float) -> str:
    colour, dash = palette.RUNS[place % len(palette.RUNS)], _DASHES[place // len(palette.RUNS) % len(_DASHES)]
    style = f'fill="none" stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")
    points = " ".join(f"{_x(tokens, most):.1f},{_y(accuracy):.1f}" for tokens, accuracy in path)
    top = _TOP + _LINE * (place + 1) + 8
    left = _WIDTH - _RIGHT + 8
    sign = f'<path d="M{left} {top - 4}h22" {style}/><text x="{left + 28}" y="{top}">{escape(name)}</text>'
    return f'<polyline points="{points}" {style}/>{sign}'


def _x(tokens: float, most: float) -> float:
    return _LEFT + (_WIDTH - _RIGHT - _LEFT) * tokens / most


def _y(accuracy: float) -> float:
    return _TOP + (_HEIGHT - _BOTTOM - _TOP) * (1.0 - accuracy)
