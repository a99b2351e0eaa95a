"""Colours that can be told apart, and read, on a light and on a dark page."""

LIGHT_PAGE, DARK_PAGE = "#ffffff", "#14171b"
LIGHT_INK, DARK_INK = "#1b1f24", "#e4e7eb"

RUNS = ("#2f7fd1", "#d2691e", "#16917f", "#8a63d2", "#c8487f", "#7a8794")
"""One per run, the first for the run that the report is about. Between 3:1 and 7:1 on both pages."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
"""Runs differ in more than colour."""

DIVERGENCE = (217, 95, 2)
"""Hue of the divergence of tokens."""
OPACITIES = (0.0, 0.12, 0.22, 0.33, 0.44, 0.55, 0.65, 0.74)
"""Of that hue, one per level."""
LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Lower ends of the levels after the first, in nats."""


def transparent(colour: str, opacity: float) -> str:
    """A colour of the form `#rrggbb` with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def level(nats: float) -> int:
    """Level of a divergence; not-a-number and negative values have the lowest."""
    return sum(nats >= bound for bound in LEVELS)


def token_styles() -> str:
    """Style rules of the levels."""
    red, green, blue = DIVERGENCE
    return "\n".join(f".k{i}{{background:rgba({red},{green},{blue},{opacity})}}" for i, opacity in enumerate(OPACITIES))
