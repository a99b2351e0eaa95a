"""A method as a value."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from tutelage.errors import ConfigError
from tutelage.objectives import Temperatures, Term
from tutelage.rollouts.sources import AnyRollouts, MixedRollouts, TeacherPrefixRollouts, TeacherRollouts
from tutelage.teachers.parts import AnyTeacher
from tutelage.types import Capability


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
    temperatures: Temperatures = Temperatures()
    """Of the softmaxes in the loss."""

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Recipe {self.name!r} needs terms with different names, got {names}.")
        if self.teacher is None and (self.needs or self.teacher_writes):
            reason = "its rollouts are the teacher's" if self.teacher_writes else f"its terms need {sorted(self.needs)} of one"
            raise ConfigError(f"Recipe {self.name!r} has no teacher, but {reason}. Give it one: --recipe.teacher.model MODEL.")

    @property
    def needs(self) -> frozenset[Capability]:
        """What the terms ask of the teacher."""
        return frozenset[Capability]().union(*(term.needs for term in self.terms))

    @property
    def teacher_writes(self) -> bool:
        """Whether the teacher writes any tokens."""
        return isinstance(self.rollouts, TeacherRollouts | TeacherPrefixRollouts) or (
            isinstance(self.rollouts, MixedRollouts)
            and self.rollouts.otherwise == "teacher"
            and self.rollouts.student_fraction < 1.0
        )
