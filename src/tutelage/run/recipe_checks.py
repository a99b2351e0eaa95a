"""What can be said about a recipe and its data before any model is loaded."""

from collections.abc import Sequence

from tutelage.errors import DataError, PreflightError
from tutelage.objectives import (
    CandidateActions,
    Divergence,
    LogRatio,
    NoRatio,
    ScoreFunction,
    StudentKLBaseline,
    TopK,
    TopKLBaseline,
)
from tutelage.objectives.linearise import depends_on_step
from tutelage.objectives.terms import AuthorName, Term
from tutelage.recipes import Recipe
from tutelage.recipes.recipe import MAIN_TEACHER
from tutelage.rollouts.sources import (
    AnyRollouts,
    BestTeacherRollouts,
    BlendedRollouts,
    BufferedRollouts,
    DatasetRollouts,
    EnvironmentRollouts,
    MixedRollouts,
    ReplayRollouts,
    ResponseColumn,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
    WatchedRollouts,
)
from tutelage.teachers.contexts import reference_of
from tutelage.teachers.parts import Live, ModelTeacher, NoContext, ReferenceSolution, RoutedTeacher, SelfTeacher, ServedTeacher
from tutelage.types import Capability, ComposedSignal, Example
from tutelage.verifiers import AnyVerifier


def check_recipe(recipe: Recipe, *, verifier: AnyVerifier | None = None) -> tuple[str, ...]:
    """Whether the parts of a recipe fit together, and with the verifier, where it is known.

    Returns:
        What is allowed but worth knowing, one sentence each.

    Raises:
        PreflightError: A term asks its teacher for more than it gives, names a teacher that does not exist, or acts on tokens
            that nobody writes; the teacher has no model; a score function is to act on greedy samples; the verifier does not
            give what a part asks of it.
    """
    if verifier is not None and (unmet := recipe.verdicts - verifier.provides):
        raise PreflightError(
            f"Recipe {recipe.name!r} needs {', '.join(sorted(unmet))} from a verifier, and the run's ({verifier.kind!r}) gives "
            f"{', '.join(sorted(verifier.provides)) or 'nothing'}. Choose one that does: --verifier.kind "
            f"{'function' if 'feedback' in unmet else 'exact_match, math, or function'}."
        )
    notes = [*_check_teacher(recipe)]
    writers = writers_of(recipe.rollouts)
    for term in recipe.terms:
        _check_term(recipe, term, writers)
    notes += _check_sampling(recipe)
    if idle := writers - {name for term in recipe.terms for name in term.on} - {"teacher"}:
        notes.append(f"No term acts on tokens by {sorted(idle)}: steps that hold nothing else change nothing.")
    return tuple(notes)


def check_data(recipe: Recipe, examples: Sequence[Example]) -> tuple[str, ...]:
    """Whether the data set has what the recipe's rollouts and teachers read.

    Returns:
        What is allowed but worth knowing, one sentence each.

    Raises:
        DataError: An example lacks a response that the rollouts take from the data set, a context that may not be missing, or
            the name of an expert.
        PreflightError: Not one example has the column that the teacher's context shows.
    """
    column = response_column(recipe.rollouts)
    if column is not None:
        lacking = [example.id for example in examples if not getattr(example, column)]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(examples)} examples have no {column!r}, the first is {lacking[0]!r}; the rollouts "
                f"({recipe.rollouts.kind!r}) take responses from it. Name another column (--recipe.rollouts.column), map one "
                "to it (--data.columns), drop these rows, or take a recipe whose student or teacher writes everything."
            )
    notes = list[str]()
    for name, teacher in recipe.teachers.items():
        if isinstance(teacher, RoutedTeacher):
            for example in examples:
                _ = teacher.expert_of(example)
        if isinstance(context := teacher.context, ReferenceSolution):
            notes += _check_reference(name, context, examples)
    return tuple(notes)


def _check_reference(teacher: str, context: ReferenceSolution, examples: Sequence[Example]) -> list[str]:
    missing = sum(reference_of(context, example) is None for example in examples)
    if missing == len(examples):
        raise PreflightError(
            f"The context of {teacher!r} shows the column {context.column!r}, and none of the {len(examples)} examples has it: "
            "it would know no more than the student. Name another column (--recipe.teacher.context.column) or map one to it "
            "(--data.columns)."
        )
    return (
        [f"{missing} of {len(examples)} examples have no {context.column!r}; {teacher!r} cannot teach them."] if missing else []
    )


def check_vocabulary(recipe: Recipe, vocab: int) -> None:
    """Refuse a top-k that is larger than the vocabulary.

    Raises:
        PreflightError: With the term, its k and the number of ids.
    """
    for term in recipe.terms:
        if (entries := entries_of(term)) > vocab:
            raise PreflightError(
                f"Term {term.name!r} keeps the {entries} likeliest entries, but student and teacher share only {vocab} ids. "
                f"Lower k to at most {vocab}, or use the full vocabulary."
            )


def entries_of(term: Term) -> int:
    """How many of the likeliest entries a term looks at; 0 where it looks at all of them or at the written token alone."""
    match term.signal:
        case Divergence(support=TopK(k=k)) | CandidateActions(k=k):
            return k
        case ScoreFunction(advantage=LogRatio(baseline=StudentKLBaseline(k=k) | TopKLBaseline(k=k))):
            return k
        case _:
            return 0


def sampling_of(rollouts: AnyRollouts) -> Sampling | None:
    """How tokens are drawn, where any are."""
    return None if isinstance(rollouts, DatasetRollouts) else rollouts.sampling


def response_limit(rollouts: AnyRollouts) -> int:
    """Longest response in tokens."""
    return rollouts.max_tokens if isinstance(rollouts, DatasetRollouts) else rollouts.sampling.max_new_tokens


def response_column(rollouts: AnyRollouts) -> ResponseColumn | None:
    """The column that responses are taken from, where any are."""
    match rollouts:
        case DatasetRollouts(column=column):
            return column
        case MixedRollouts(otherwise="dataset", column=column, student_fraction=fraction) if fraction < 1.0:
            return column
        case _:
            return None


def writers_of(rollouts: AnyRollouts) -> frozenset[AuthorName]:
    """Who may write a token."""
    match rollouts:
        case StudentRollouts() | BlendedRollouts() | WatchedRollouts() | ReplayRollouts() | BufferedRollouts():
            return frozenset({"student"})
        case EnvironmentRollouts():
            return frozenset({"student"})  # the environment's tokens are nobody's
        case DatasetRollouts():
            return frozenset({"dataset"})
        case TeacherRollouts():
            return frozenset({"teacher"})
        case TeacherPrefixRollouts() | BestTeacherRollouts():
            return frozenset({"student", "teacher"})
        case MixedRollouts(student_fraction=fraction, otherwise=otherwise):
            writers: dict[AuthorName, bool] = {"student": fraction > 0.0, otherwise: fraction < 1.0}
            return frozenset(name for name, writes in writers.items() if writes)


def _check_teacher(recipe: Recipe) -> list[str]:
    match recipe.teacher:
        case ModelTeacher(model=""):
            raise PreflightError(
                f"Recipe {recipe.name!r} needs a teacher model, and none is named. Give a folder or hub id: "
                "--recipe.teacher.model MODEL."
            )
        case ServedTeacher(url=url, model=model) if not url or not model:
            raise PreflightError(
                f"Recipe {recipe.name!r} has a served teacher without its {'url' if not url else 'model'}. It needs the "
                "server's address (--recipe.teacher.url http://127.0.0.1:8000) and the folder or hub id of what is served, for "
                "its tokenizer (--recipe.teacher.model MODEL)."
            )
        case ServedTeacher() if recipe.teacher_reads_along:
            raise PreflightError(
                f"The rollouts of recipe {recipe.name!r} ({recipe.rollouts.kind!r}) let the teacher look at each token before "
                "it is drawn, which takes a request for every token. Load the teacher in process: --recipe.teacher.kind model."
            )
        case SelfTeacher(update=Live(), context=NoContext(), template_options=options) if not options:
            return ["The teacher is the student itself under the same prompt: every divergence between them is zero."]
        case RoutedTeacher() if recipe.teacher_writes or recipe.teacher_reads_along:
            raise PreflightError(
                f"The rollouts of recipe {recipe.name!r} ({recipe.rollouts.kind!r}) ask the teacher for tokens, and several "
                "experts do not write. Let the student write alone, or give one model as the teacher."
            )
        case RoutedTeacher(served=served) if lacking := [
            name for name, part in served.items() if not (part.url and part.model)
        ]:
            flags = f"--recipe.teacher.experts.{lacking[0]}."
            raise PreflightError(
                f"Recipe {recipe.name!r} has the served expert {lacking[0]!r} without its address or its folder. Name both: "
                f"{flags}url http://127.0.0.1:8000 {flags}model MODEL."
            )
        case _:
            return []


def _provided(recipe: Recipe, name: str) -> frozenset[Capability]:
    if name in recipe.compositions:
        return ComposedSignal.provides
    return recipe.teachers[name].provides if name in recipe.teachers else frozenset()


def _check_term(recipe: Recipe, term: Term, writers: frozenset[AuthorName]) -> None:
    names = [*recipe.teachers, *recipe.compositions]
    if term.needs and term.teacher not in names:
        raise PreflightError(
            f"Term {term.name!r} asks a teacher called {term.teacher!r}, but the recipe's teachers are called "
            f"{', '.join(map(repr, names)) or 'nothing: it has none'}. Set the term's teacher to one of them."
        )
    signal = term.signal
    if depends_on_step(signal) and signal.statistics and term.teacher != MAIN_TEACHER:
        raise PreflightError(
            f"Term {term.name!r} looks at the whole step and asks {term.teacher!r}, but a step is measured against the "
            "recipe's own teacher only. Make that one the recipe's teacher, and the other a reference."
        )
    teacher = recipe.teachers.get(term.teacher) or recipe.compositions.get(term.teacher)
    provided = _provided(recipe, term.teacher)
    if unmet := sorted(term.needs - provided):
        raise PreflightError(
            f"Term {term.name!r} needs {unmet} of its teacher, but the teacher ({teacher and teacher.kind!r}) "
            f"provides only {sorted(provided)}. Give the term a support that the teacher can fill, such as TopK chosen by the "
            "teacher, or load the teacher in process."
        )
    for flag, part in _servers(teacher):
        if (entries := entries_of(term)) > part.k:
            raise PreflightError(
                f"Term {term.name!r} takes the teacher's {entries} likeliest entries, and its server is asked for {part.k}. "
                f"Ask for as many ({flag}.k {entries}), or lower the term's k."
            )
    if not writers & set(term.on):
        raise PreflightError(
            f"Term {term.name!r} acts on tokens by {sorted(term.on)}, but the rollouts ({recipe.rollouts.kind!r}) hold only "
            f"tokens by {sorted(writers)}: the term would never act. Change its `on`, or the rollouts."
        )


def _servers(teacher: object) -> list[tuple[str, ServedTeacher]]:
    """The served models behind a teacher, by their flags."""
    match teacher:
        case ServedTeacher():
            return [("--recipe.teacher", teacher)]
        case RoutedTeacher(served=served):
            return [(f"--recipe.teacher.experts.{name}", part) for name, part in served.items()]
        case _:
            return []


def _check_sampling(recipe: Recipe) -> list[str]:
    sampling, temperatures, notes = sampling_of(recipe.rollouts), recipe.temperatures, list[str]()
    if temperatures.student != temperatures.teacher:
        notes.append(
            f"The loss divides the student's logits by {temperatures.student} and the teacher's by {temperatures.teacher}: at "
            "the optimum the two distributions agree at these temperatures and not at 1."
        )
    if sampling is None or "student" not in writers_of(recipe.rollouts):
        return notes
    sampled = [term for term in recipe.terms if isinstance(term.signal, ScoreFunction)]
    for term in sampled:
        notes += _check_score_function(term, sampling, temperatures.student)
    if not sampled and sampling.temperature != temperatures.student:
        notes.append(
            f"Tokens are sampled at temperature {sampling.temperature}, the loss uses {temperatures.student} for the student: "
            "each prefix is scored exactly, but the prefixes are those of another temperature."
        )
    if sampling.temperature == 0.0 and sampling.n > 1:
        notes.append(f"At temperature 0 the {sampling.n} responses to a prompt are all the same.")
    return notes


def _check_score_function(term: Term, sampling: Sampling, temperature: float) -> list[str]:
    assert isinstance(term.signal, ScoreFunction)
    if sampling.temperature == 0.0:
        raise PreflightError(
            f"Term {term.name!r} is a score function, an average over sampled tokens, but sampling takes the likeliest token "
            "(temperature 0): there is nothing to average over. Sample at temperature 1, or use a divergence."
        )
    notes = list[str]()
    if sampling.top_p < 1.0 or sampling.top_k > 0:
        notes.append(
            f"Term {term.name!r} is a score function on samples filtered by top_p {sampling.top_p}, top_k {sampling.top_k}: "
            "tokens outside the filter are never seen, so its gradient is biased. A divergence over the vocabulary is not."
        )
    if sampling.temperature != temperature and isinstance(term.signal.ratio, NoRatio):
        notes.append(
            f"Term {term.name!r} is a score function without importance weights, on samples at temperature "
            f"{sampling.temperature} while the loss uses {temperature}: its gradient is biased."
        )
    return notes
