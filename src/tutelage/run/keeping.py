"""Which teachers of a run stand behind a score cache, what it keeps of them, and whether they are loaded at all."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import final

import torch

from tutelage.errors import ConfigError, ServerError
from tutelage.models import ModelSource
from tutelage.recipes import Recipe
from tutelage.recipes.recipe import MAIN_TEACHER
from tutelage.rollouts.sources import DatasetRollouts, ReplayRollouts
from tutelage.run.config import RunConfig
from tutelage.run.recipe_checks import entries_of
from tutelage.scores import DiskStore, MemoryStore, Request, ScoreCache
from tutelage.scores.teachers import TeacherRecord, describe_teacher, keep_teacher, known_teachers, recorded_fingerprint
from tutelage.teachers import Cached, Scorer, Teacher
from tutelage.teachers.cached import Cache
from tutelage.teachers.keeping import keep_head, read_head
from tutelage.teachers.parts import AnyTeacher, Frozen, ModelTeacher, RoutedTeacher, SelfTeacher, ServedTeacher
from tutelage.teachers.served import Served
from tutelage.types import Example, Head


def is_offline(config: RunConfig) -> bool:
    """Whether a run must do without its teachers' weights."""
    return config.scores is not None and config.scores.mode == "offline"


def check_scores(config: RunConfig) -> tuple[str, ...]:
    """Whether what the recipe needs can be kept, and used without a teacher where that is asked for.

    Returns:
        What is allowed but worth knowing, one sentence each.

    Raises:
        ConfigError: Nothing could be kept; a term needs more than is kept; the run is offline and would have to ask a teacher.
    """
    scores, recipe = config.scores, config.recipe
    if scores is None:
        return ()
    moving = [name for name, part in recipe.teachers.items() if _moves(part)]
    kept = [name for name in recipe.teachers if name not in moving and recipe.needs_of(name)]
    if not kept:
        raise ConfigError(
            f"The run has a score cache, and recipe {recipe.name!r} has no teacher whose scores could be kept: "
            f"{', '.join(moving) or 'nobody'} moves with the student, and kept scores would be those of an earlier one. "
            "Take the cache out (--scores null), or let a teacher that the terms ask stay as it is."
        )
    for name in kept:
        if isinstance(part := recipe.teachers[name], RoutedTeacher) and part.served:
            raise ConfigError(
                f"The run has a score cache, and the experts of {name!r} are served: what several servers say is not kept. "
                "Take the cache out (--scores null), or load the experts in process."
            )
        _check_request(scores, recipe, name)
    if not is_offline(config):
        return (f"{', '.join(moving)} moves with the student and is asked anew in every step.",) if moving else ()
    _check_offline(recipe, moving)
    return ("The run is offline: no teacher is loaded, so evaluations do not say how far the student is from it.",)


def check_fixed(recipe: Recipe, purpose: str) -> None:
    """Refuse rollouts that depend on how the student moves: nobody could have scored them before.

    Raises:
        ConfigError: The recipe has such rollouts.
    """
    match recipe.rollouts:
        case DatasetRollouts() | ReplayRollouts(ahead=True):
            return
        case source:
            raise ConfigError(
                f"{purpose} needs responses that are known before the run: those of a data set (rollouts.kind dataset), or "
                "what the student writes to all prompts before the first step (kind replay with ahead, as in lightning). "
                f"Recipe {recipe.name!r} has {source.kind!r}. Use --scores.mode online, or such rollouts."
            )


def without_servers(recipe: Recipe) -> Recipe:
    """The recipe with its served teachers as models, which read the same; nothing is loaded or asked of them offline."""

    def stand_in(part: AnyTeacher | None) -> AnyTeacher | None:
        if not isinstance(part, ServedTeacher):
            return part
        return ModelTeacher(
            model=part.model, revision=part.revision, context=part.context, template_options=part.template_options
        )

    references = {name: found for name, part in recipe.references.items() if (found := stand_in(part)) is not None}
    return replace(recipe, teacher=stand_in(recipe.teacher), references=references)


@final
class Keeper:
    """Puts the teachers of a run behind its cache."""

    def __init__(self, config: RunConfig, *, vocab: int, device: torch.device, autocast: torch.dtype | None) -> None:
        """Open the cache.

        Args:
            config: With the recipe, the student and the cache.
            vocab: Ids that student and teachers share.
            device: Where signals go.
            autocast: Arithmetic of the student's forward, which a self teacher shares.
        """
        self._config, self._vocab, self._device, self._autocast = config, vocab, device, autocast
        scores = config.scores
        self._disk = None if scores is None else DiskStore(scores.folder, max_bytes=scores.max_bytes)

    def behind(self, name: str, teacher: Scorer) -> Scorer:
        """A teacher behind the cache, or as it is where its scores are not kept.

        Raises:
            TeacherError: Offline, the cache does not know the teacher.
            ServerError: A served teacher answers otherwise than when its scores were kept.
        """
        part, recipe = self._config.recipe.teachers[name], self._config.recipe
        if self._disk is None:
            if isinstance(part, ModelTeacher) and part.remember:
                request, store = Request(kind="sampled"), MemoryStore()
                return Cached(teacher, Cache(store=store, request=request, vocab=self._vocab, fingerprint=lambda _: name))
            return teacher
        if _moves(part) or not recipe.needs_of(name):
            return teacher
        assert self._config.scores is not None
        request = _request(self._config.scores, recipe, name)
        request = replace(request, k=min(request.k, self._vocab))
        return Cached(teacher, self._cache(part, teacher, request, self._disk), offline=is_offline(self._config))

    def _cache(self, part: AnyTeacher, teacher: Scorer, request: Request, store: DiskStore) -> Cache:
        offline, folder = is_offline(self._config), store.folder
        records = {expert: self._record(one) for expert, one in _single_parts(part).items()}
        if offline:
            names = {expert: recorded_fingerprint(folder, record) for expert, record in records.items()}
        else:
            names = {expert: record.fingerprint for expert, record in records.items()}
        if isinstance(teacher, Served):
            records = {expert: _recognised(folder, record, teacher) for expert, record in records.items()}
        return Cache(
            store=store,
            request=request,
            vocab=self._vocab,
            fingerprint=_by_example(part, names),
            place=repr(str(folder)),
            before_writing=partial(_write_down, folder, list(records.values()), _head_of(teacher, request)),
            head=self._head(folder, names, teacher, request),
        )

    def _head(self, folder: Path, names: Mapping[str, str], teacher: Scorer, request: Request) -> Callable[[], Head] | None:
        if request.kind != "hidden":
            return None
        if not is_offline(self._config):
            return _head_of(teacher, request)
        (name,) = names.values()
        head = read_head(folder, name, vocab=self._vocab, device=self._device)
        return lambda: head

    def _record(self, part: ModelTeacher | ServedTeacher | SelfTeacher) -> TeacherRecord:
        match part:
            case ServedTeacher():
                found = describe_teacher(part.model, revision=part.revision, dtype="served")
                return replace(found, weights={"served as": part.name})  # by its answers, not by files that need not be here
            case ModelTeacher():
                source = ModelSource(path=part.model, revision=part.revision, dtype=part.dtype)
                return describe_teacher(part.model, revision=part.revision, dtype=self._dtype(source, "stored"))
            case SelfTeacher():
                source = self._config.student
                dtype = f"{self._dtype(source, 'float32')} under {self._autocast}"
                return describe_teacher(source.path, revision=source.revision, dtype=dtype)

    def _dtype(self, source: ModelSource, on_cpu: str) -> str:
        """Type of the weights as `models.load` decides it."""
        if source.dtype != "auto":
            return source.dtype
        return "bfloat16" if self._device.type == "cuda" and on_cpu == "stored" else on_cpu


def _moves(part: AnyTeacher) -> bool:
    return isinstance(part, SelfTeacher) and not isinstance(part.update, Frozen)


def _request(scores: ScoreCache, recipe: Recipe, name: str) -> Request:
    """How much is kept of a teacher: what the terms need of it."""
    part, needs = recipe.teachers[name], recipe.needs_of(name)
    if needs <= {"sampled"} or (isinstance(part, ModelTeacher) and part.remember):
        return Request(kind="sampled")
    if needs <= {"sampled", "top_k"}:
        return Request(kind="top_k", k=min(scores.k, part.k) if isinstance(part, ServedTeacher) else scores.k)
    return Request(kind="hidden")


def _check_request(scores: ScoreCache, recipe: Recipe, name: str) -> None:
    request, terms = _request(scores, recipe, name), [term for term in recipe.terms if term.teacher == name]
    if request.kind == "hidden":
        greedy = [term.name for term in terms if not term.needs <= {"sampled", "top_k"}] or ["a composition"]
        remedy = (
            "Keep hidden states as well (--scores.hidden true; 2 or 4 bytes times the teacher's width for each token), or give "
            "the terms a support of the teacher's own likeliest entries, such as --recipe.terms.0.signal.support.kind top_k."
        )
        if not scores.hidden:
            raise ConfigError(
                f"Of {name!r} the score cache keeps the {scores.k} likeliest entries of each token, and {', '.join(greedy)} of "
                f"recipe {recipe.name!r} needs its whole distribution. {remedy}"
            )
        if isinstance(recipe.teachers[name], RoutedTeacher | ServedTeacher):
            raise ConfigError(
                f"Hidden states of {name!r} ({recipe.teachers[name].kind}) cannot be kept: they belong to one model in this "
                "process. Give its terms a support of the teacher's own likeliest entries."
            )
        return
    if recipe.temperatures.teacher != 1.0:
        raise ConfigError(
            f"The teacher's temperature is {recipe.temperatures.teacher!r}, and the score cache keeps log-probabilities at 1, "
            "which cannot be rescaled. Set recipe.temperatures.teacher to 1, or take the cache out (--scores null)."
        )
    for term in terms:
        if request.kind == "top_k" and entries_of(term) > scores.k:
            raise ConfigError(
                f"Term {term.name!r} takes the teacher's {entries_of(term)} likeliest entries, and the score cache keeps "
                f"{scores.k}. Keep as many: --scores.k {entries_of(term)}."
            )


def _check_offline(recipe: Recipe, moving: list[str]) -> None:
    if moving:
        raise ConfigError(
            f"The run is offline, and {', '.join(moving)} of recipe {recipe.name!r} moves with the student: scores that were "
            "kept before would be those of an earlier one. Let it stay as it is, or use --scores.mode online."
        )
    check_fixed(recipe, "A run that is offline")


def _single_parts(part: AnyTeacher) -> dict[str, ModelTeacher | ServedTeacher | SelfTeacher]:
    """The models behind a teacher, experts by their names."""
    return dict(part.experts) if isinstance(part, RoutedTeacher) else {MAIN_TEACHER: part}


def _by_example(part: AnyTeacher, names: Mapping[str, str]) -> Callable[[Example], str]:
    if isinstance(part, RoutedTeacher):
        return lambda example: names[part.expert_of(example)]
    return lambda example: names[MAIN_TEACHER]


def _head_of(teacher: Scorer, request: Request) -> Callable[[], Head] | None:
    return (lambda: teacher.head) if request.kind == "hidden" and isinstance(teacher, Teacher) else None


def _write_down(folder: Path, records: list[TeacherRecord], head: Callable[[], Head] | None) -> None:
    for record in records:
        keep_teacher(folder, record)
        if head is not None:
            keep_head(folder, record.fingerprint, head())


def _recognised(folder: Path, record: TeacherRecord, teacher: Served) -> TeacherRecord:
    """The record of a served teacher with its answers, which must be those it gave when its scores were kept."""
    known = known_teachers(folder).get(record.fingerprint)
    if known is None:
        state = teacher.state_dict()
        return replace(record, answers={"token_ids": list(state["token_ids"]), "log_probs": state["log_probs"].tolist()})
    try:
        teacher.load_state_dict({**known.answers, "log_probs": torch.tensor(known.answers["log_probs"])})
    except ServerError as error:
        raise ServerError(
            f"The score cache {str(folder)!r} holds scores of other weights under this model's name, and none of them may be "
            f"used. Name another folder with --scores.folder, or another --recipe.teacher.revision. {error}"
        ) from error
    return known
