"""Which recipes may write, score and train at the same time, and what has to change in their terms for it."""

from dataclasses import replace

from tutelage.errors import ConfigError
from tutelage.objectives import LogRatio, NoRatio, ScoreFunction, Term
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import BufferedRollouts, ReplayRollouts
from tutelage.teachers.parts import Frozen, SelfTeacher
from tutelage.training.settings import AsynchronousSettings


def fit_ahead(recipe: Recipe, settings: AsynchronousSettings) -> tuple[Recipe, tuple[str, ...]]:
    """A recipe for responses that are written before the steps that precede theirs were taken.

    Returns:
        The recipe, whose log-ratios compare the teacher with the present student; and what was changed, or is worth knowing,
        one sentence each.

    Raises:
        ConfigError: A part looks at the student between two steps, or keeps responses for a time of its own.
    """
    if settings.staleness == 0:
        return recipe, ()
    if reason := _obstacle(recipe):
        raise ConfigError(
            f"Recipe {recipe.name!r} cannot write ahead of training, which asynchronous.staleness = {settings.staleness} asks "
            f"for: {reason}. Set --asynchronous.staleness 0, or choose a recipe without that part."
        )
    terms = tuple(_of_present_student(term) for term in recipe.terms)
    changed = [new.name for old, new in zip(recipe.terms, terms, strict=True) if old != new]
    bare = [term.name for term in terms if isinstance(term.signal, ScoreFunction) and isinstance(term.signal.ratio, NoRatio)]
    return replace(recipe, terms=terms), (
        *(
            f"Term {name!r} compares the teacher with the student as it is, not as it was when it wrote (relative_to = "
            "'student'): on responses of an earlier student only that aims at the divergence of the present one."
            for name in changed
        ),
        *(
            f"Term {name!r} is a score function without importance weights, on responses that a student {settings.staleness} "
            "steps ago wrote: its gradient is biased. Give it the ratio 'importance', with a cap where the ratio may grow."
            for name in bare
        ),
    )


def _of_present_student(term: Term) -> Term:
    """The term with its signal computed under the student that is trained."""
    match term.signal:
        case ScoreFunction(advantage=LogRatio(relative_to="behaviour") as advantage) as signal:
            return replace(term, signal=replace(signal, advantage=replace(advantage, relative_to="student")))
        case _:
            return term


def _obstacle(recipe: Recipe) -> str | None:
    following = [
        name
        for name, teacher in recipe.teachers.items()
        if isinstance(teacher, SelfTeacher) and not isinstance(teacher.update, Frozen)
    ]
    if following:
        return f"its teacher {following[0]!r} follows the student, so what it says depends on when it is asked"
    if recipe.teacher_writes or recipe.teacher_reads_along:
        return f"in its rollouts ({recipe.rollouts.kind!r}) the teacher writes or reads along, and it is busy with scoring"
    if recipe.controllers:
        return f"its controllers ({', '.join(recipe.controllers)}) act between two steps"
    if isinstance(recipe.rollouts, BufferedRollouts | ReplayRollouts):
        return f"its rollouts ({recipe.rollouts.kind!r}) decide themselves how old a response is"
    return None
