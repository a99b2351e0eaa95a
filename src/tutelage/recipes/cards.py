"""What a reader should know of a method: the text beside the value."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """A parameter of a recipe's function."""

    name: str
    default: str
    """As it stands in the signature."""
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A published method in a few lines."""

    title: str
    paper: str
    """arXiv id, or where it was published."""
    equation: str
    """What is minimised, in plain notation."""
    summary: str
    """Who writes, who teaches, what is minimised, in a sentence or two."""
    knobs: tuple[Knob, ...]
    settings: str
    """What the paper trained with; settings of the run, not of the recipe."""
    exact_check: str
    """A property that holds exactly and that a test holds us to."""
    differs: str = ""
    """Where our default differs from the paper or a constant is unknown there, and why."""


def responses(default: int) -> Knob:
    """The knob for how many responses a prompt gets."""
    return Knob(name="n", default=repr(default), meaning="responses per prompt")


LENGTH = Knob(name="max_new_tokens", default="256", meaning="longest response in tokens")
"""The knob for how long a response may become."""
