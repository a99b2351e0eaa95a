"""A method as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from tutelage.controllers import AnyController
from tutelage.errors import ConfigError
from tutelage.objectives import Temperatures, Term
from tutelage.objectives.compositions import AnyComposition
from tutelage.rollouts.sources import (
    AnyRollouts,
    BestTeacherRollouts,
    BlendedRollouts,
    MixedRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
    WatchedRollouts,
)
from tutelage.teachers.parts import AnyTeacher, RoutedTeacher
from tutelage.types import Capability, VerdictField
from tutelage.types.schedules import controlled_in
from tutelage.weighting.base import verdicts_of

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
    compositions: Mapping[str, AnyComposition] = field(default_factory=dict[str, AnyComposition])
    """Teachers made of the others' distributions, or of one and the student's, by the name under which terms ask them."""
    temperatures: Temperatures = Temperatures()
    """Of the softmaxes in the loss."""
    controllers: Mapping[str, Annotated[AnyController, Field(discriminator="kind")]] = field(
        default_factory=dict[str, AnyController]
    )
    """Rules that look at finished steps and move a controlled setting or the weights, by a name of their own."""

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Recipe {self.name!r} needs terms with different names, got {names}.")
        self._require_names()
        self._require_controllers()
        needs = self.needs_of(MAIN_TEACHER)
        if self.teacher is None and (needs or self.teacher_writes or self.teacher_reads_along):
            reason = f"its terms need {sorted(needs)} of one" if needs else f"its rollouts ({self.rollouts.kind!r}) need one"
            raise ConfigError(f"Recipe {self.name!r} has no teacher, but {reason}. Give it one: --recipe.teacher.model MODEL.")

    def _require_names(self) -> None:
        """Every name stands for one teacher, and every teacher is asked by somebody."""
        named = [MAIN_TEACHER, *self.references, *self.compositions]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ConfigError(
                f"Recipe {self.name!r} gives {', '.join(twice)} to two teachers; {MAIN_TEACHER!r} is its own one's name."
            )
        for name, composition in self.compositions.items():
            if unknown := sorted(set(composition.parts) - self.teachers.keys()):
                raise ConfigError(
                    f"Composition {name!r} of recipe {self.name!r} is made of {', '.join(unknown)}, but its teachers are "
                    f"called {', '.join(self.teachers) or 'nothing: it has none'}."
                )
            if narrow := [part for part in composition.parts if "full" not in self.teachers[part].provides]:
                raise ConfigError(
                    f"Composition {name!r} of recipe {self.name!r} is made of {', '.join(narrow)}, which does not give its "
                    "whole distribution. Leave `remember` out there."
                )
            if routed := [part for part in composition.parts if isinstance(self.teachers[part], RoutedTeacher)]:
                raise ConfigError(
                    f"Composition {name!r} of recipe {self.name!r} is made of {', '.join(routed)}, which is several experts, "
                    "and a composition takes one model for each part. Compose the experts themselves, as references."
                )
        asked = {term.teacher for term in self.terms if term.needs}
        asked |= {part for name in asked & self.compositions.keys() for part in self.compositions[name].parts}
        if idle := sorted((self.references.keys() | self.compositions.keys()) - asked):
            raise ConfigError(
                f"Recipe {self.name!r} has teachers that no term asks: {', '.join(idle)}. Set a term's teacher to them, or "
                "drop them."
            )

    def _require_controllers(self) -> None:
        """Every controlled setting is moved by one controller, and no controller moves what is not there."""
        moved, known = [part.moves for part in self.controllers.values() if part.moves is not None], self.controlled
        if sorted(moved) != sorted(known):
            raise ConfigError(
                f"Recipe {self.name!r} has the controlled settings {sorted(known)}, and controllers that move {sorted(moved)}. "
                "Each needs exactly one controller: add it under recipe.controllers, or give the setting a number."
            )

    @property
    def controlled(self) -> Mapping[str, float]:
        """Settings that controllers move, by name, with the values that they start with."""
        return controlled_in((self.rollouts, self.terms, dict(self.teachers)))

    @property
    def needs(self) -> frozenset[Capability]:
        """What the terms ask of all teachers."""
        return frozenset[Capability]().union(*(term.needs for term in self.terms))

    def needs_of(self, teacher: str) -> frozenset[Capability]:
        """What the terms ask of one teacher; a composition asks its parts for their whole distributions."""
        direct = frozenset[Capability]().union(*(term.needs for term in self.terms if term.teacher == teacher))
        within = any(teacher in composition.parts for composition in self.compositions.values())
        return direct | frozenset[Capability]({"full"} if within else ())

    @property
    def verdicts(self) -> frozenset[VerdictField]:
        """What the parts ask of the verifier."""
        parts = (self.rollouts, *self.controllers.values(), *(teacher.context for teacher in self.teachers.values()))
        return frozenset[VerdictField]().union(*map(verdicts_of, parts), *(term.verdicts for term in self.terms))

    @property
    def teachers(self) -> Mapping[str, AnyTeacher]:
        """All teachers that score by themselves, by name, the recipe's own first."""
        return ({} if self.teacher is None else {MAIN_TEACHER: self.teacher}) | dict(self.references)

    @property
    def teacher_writes(self) -> bool:
        """Whether the teacher writes any tokens."""
        return isinstance(self.rollouts, TeacherRollouts | TeacherPrefixRollouts | BestTeacherRollouts) or (
            isinstance(self.rollouts, MixedRollouts)
            and self.rollouts.otherwise == "teacher"
            and self.rollouts.student_fraction < 1.0
        )

    @property
    def teacher_reads_along(self) -> bool:
        """Whether the teacher looks at each token before the student draws it."""
        return isinstance(self.rollouts, BlendedRollouts | WatchedRollouts)
