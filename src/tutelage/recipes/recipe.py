"""A method as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.objectives import Temperatures, Term
from tutelage.rollouts.sources import AnyRollouts, MixedRollouts, TeacherPrefixRollouts, TeacherRollouts
from tutelage.teachers.parts import AnyTeacher
from tutelage.types import Capability

MAIN_TEACHER = "teacher"
"""Name of the recipe's own teacher, which terms ask unless they say otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Who writes, who teaches under which context, which terms are minimised. Everything else is a setting of the run."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    """The method's canonical name, or the user's own."""
    rollouts: AnyRollouts
    """Who writes the responses."""
    terms: tuple[Term, ...]
    """What is minimised; the loss is their sum."""
    teacher: Annotated[AnyTeacher | None, Field(discriminator="kind")] = None
    """Who scores the tokens; none where no term needs it."""
    references: Mapping[str, Annotated[AnyTeacher, Field(discriminator="kind")]] = field(default_factory=dict[str, AnyTeacher])
    """Further teachers, by the name under which terms ask them: the student before training as an anchor, say."""
    temperatures: Temperatures = Temperatures()
    """Of the softmaxes in the loss."""

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Recipe {self.name!r} needs terms with different names, got {names}.")
        if MAIN_TEACHER in self.references:
            raise ConfigError(f"Recipe {self.name!r} has a reference called {MAIN_TEACHER!r}, the name of its own teacher.")
        if idle := sorted(self.references.keys() - {term.teacher for term in self.terms if term.needs}):
            raise ConfigError(
                f"Recipe {self.name!r} has references that no term asks: {', '.join(idle)}. Set a term's teacher to them, or "
                "drop them."
            )
        needs = self.needs_of(MAIN_TEACHER)
        if self.teacher is None and (needs or self.teacher_writes):
            reason = "its rollouts are the teacher's" if self.teacher_writes else f"its terms need {sorted(needs)} of one"
            raise ConfigError(f"Recipe {self.name!r} has no teacher, but {reason}. Give it one: --recipe.teacher.model MODEL.")

    @property
    def needs(self) -> frozenset[Capability]:
        """What the terms ask of all teachers."""
        return frozenset[Capability]().union(*(term.needs for term in self.terms))

    def needs_of(self, teacher: str) -> frozenset[Capability]:
        """What the terms ask of one teacher."""
        return frozenset[Capability]().union(*(term.needs for term in self.terms if term.teacher == teacher))

    @property
    def teachers(self) -> Mapping[str, AnyTeacher]:
        """All teachers by name, the recipe's own first."""
        return ({} if self.teacher is None else {MAIN_TEACHER: self.teacher}) | dict(self.references)

    @property
    def teacher_writes(self) -> bool:
        """Whether the teacher writes any tokens."""
        return isinstance(self.rollouts, TeacherRollouts | TeacherPrefixRollouts) or (
            isinstance(self.rollouts, MixedRollouts)
            and self.rollouts.otherwise == "teacher"
            and self.rollouts.student_fraction < 1.0
        )
