"""From a configuration to the objects of a run, fitted to each other and checked before any step."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from tutelage import data, teachers, verifiers
from tutelage.data import PromptOrder
from tutelage.errors import ConfigError
from tutelage.models import LanguageModel, ModelSource, chat, load, load_without_weights
from tutelage.recipes.recipe import MAIN_TEACHER, Recipe
from tutelage.rollouts import Aids, Prompt, Reply, RolloutWriter, Sampler, Text, environment_of, given_responses
from tutelage.rollouts.sources import EnvironmentRollouts
from tutelage.run.asynchrony import fit_ahead
from tutelage.run.config import RunConfig
from tutelage.run.evaluating import Evaluator
from tutelage.run.keeping import Keeper, check_scores, is_offline, without_servers
from tutelage.run.measuring import Ruler
from tutelage.run.preflight import PreflightReport, check_data, check_pair, check_recipe
from tutelage.run.recipe_checks import check_vocabulary, response_limit
from tutelage.run.recording import Gauge, Gauged
from tutelage.run.writing import build_writer, student_samplers, write_alone
from tutelage.teachers import Cached, Scorer
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher, SelfTeacher, ServedTeacher
from tutelage.teachers.served import connect
from tutelage.training.behaviour import BehaviourCopy
from tutelage.training.learner import Learner
from tutelage.training.pipeline import Ahead
from tutelage.training.teaching import Teaching
from tutelage.types import Example, Rollout
from tutelage.verifiers import Verifier

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Assembled:
    """The built parts of a run."""

    student: LanguageModel
    teacher: Scorer | None
    report: PreflightReport
    text: Text
    sampler: Sampler
    examples: Sequence[Example]
    prompts: Sequence[Prompt]
    held_out: Sequence[Prompt]
    verifier: Verifier
    writer: RolloutWriter
    learner: Learner
    teaching: Teaching
    evaluator: Evaluator | None
    aids: Aids
    """What the writer and whoever else has the student write use besides models."""
    controls: dict[str, float]
    """Settings that the recipe's controllers move, by name, as the writer reads them."""
    gauges: tuple[Gauge, ...] = ()
    """What parts of the run have to tell after each step."""
    ahead: Ahead | None = None
    """How far the writer may run ahead of training; None where they take turns."""


def device_of(config: RunConfig) -> torch.device:
    """The device that a configuration asks for.

    Raises:
        ConfigError: It asks for a GPU and there is none.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device = 'cuda' was asked for, but PyTorch sees no GPU. Use --device auto or cpu.")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def assemble(config: RunConfig) -> Assembled:
    """Check, load, check again, build.

    Raises:
        ConfigError: Settings contradict each other; found before anything is loaded.
        DataError: The data cannot be read or lacks what the recipe needs.
        ModelError: A model cannot be loaded.
        PreflightError: Student, teacher, data and recipe do not fit together.
    """
    torch.manual_seed(config.seed)  # decides the initial weights of adapters and their dropout
    notes = check_recipe(config.recipe, verifier=config.verifier) + check_scores(config)
    recipe, more = fit_ahead(config.recipe, config.asynchronous)
    config, notes = replace(config, recipe=recipe), (*notes, *more)
    verifier = verifiers.build(config.verifier)
    source = config.recipe.rollouts
    reply = environment_of(source) if isinstance(source, EnvironmentRollouts) else None
    examples, held_out = _examples(config)
    notes += check_data(config.recipe, examples)
    student, models = _models(config)
    report = _check_pairs(config, [*examples, *held_out], student, models)
    report = replace(report, notes=(*notes, *report.notes))
    if config.training.gradient_checkpointing:
        student.model.activation_checkpointing_enable()
    return _build(config, report, student, models, verifier, reply, examples, held_out)


def prompt_order(config: RunConfig, assembled: Assembled) -> Callable[[int], list[Prompt]]:
    """The prompts of each step."""
    order = PromptOrder(num_examples=len(assembled.prompts), batch=config.training.prompts_per_step, seed=config.seed)
    return lambda step: [assembled.prompts[index] for index in order.take(step)]


def _examples(config: RunConfig) -> tuple[list[Example], list[Example]]:
    examples = data.load(config.data)
    if config.evaluation_data is None:
        return examples, []
    return examples, data.load(config.evaluation_data)[: config.evaluation.num_prompts or None]


Models = Mapping[str, LanguageModel]
"""Models of the teachers that are not the student itself, by the teacher's name."""


def _models(config: RunConfig) -> tuple[LanguageModel, Models]:
    device, others, offline = device_of(config), _other_models(_loaded(config)), is_offline(config)
    for name, part in others.items():
        if not part.model:
            flag = "--recipe." + (name if name.startswith(MAIN_TEACHER) else f"references.{name}") + ".model"
            raise ConfigError(f"Recipe {config.recipe.name!r} needs a model for its teacher {name!r}: name one with {flag}.")
    student = load(config.student, role="student", device=device)
    return student, {name: _other_model(part, device, offline=offline) for name, part in others.items()}


def _other_model(part: ModelTeacher | ServedTeacher, device: torch.device, *, offline: bool) -> LanguageModel:
    """A model beside the student; without its weights where it is served, with the server's own window, or the run offline."""
    if isinstance(part, ServedTeacher):
        source = ModelSource(path=part.model, revision=part.revision, template_options=part.template_options)
        return load_without_weights(source, max_context=connect(part).max_scored_tokens)
    source = ModelSource(
        path=part.model,
        revision=part.revision,
        dtype=part.dtype,
        trust_remote_code=part.trust_remote_code,
        template_options=part.template_options,
    )
    return load_without_weights(source) if offline else load(source, role="teacher", device=device)


def _other_models(recipe: Recipe) -> dict[str, ModelTeacher | ServedTeacher]:
    """Every model beside the student, by the teacher's name, and an expert by its place within that teacher."""
    found: dict[str, ModelTeacher | ServedTeacher] = {}
    for name, part in recipe.teachers.items():
        match part:
            case ModelTeacher() | ServedTeacher():
                found[name] = part
            case RoutedTeacher(experts=experts):
                found |= {f"{name}.experts.{expert}": model for expert, model in experts.items()}
            case SelfTeacher():
                pass
    return found


def _loaded(config: RunConfig) -> Recipe:
    """The recipe with the teachers that are really there."""
    return without_servers(config.recipe) if is_offline(config) else config.recipe


def _check_pairs(config: RunConfig, examples: Sequence[Example], student: LanguageModel, models: Models) -> PreflightReport:
    """Preflight of the student with its teacher, and with each reference as if it were the teacher."""
    recipe = config.recipe

    def check(recipe: Recipe, teacher: LanguageModel | None) -> PreflightReport:
        return check_pair(
            recipe,
            examples,
            student=student,
            teacher=teacher,
            stop_token_ids=config.student.stop_token_ids,
            wrap=config.wrap_prompts,
        )

    asked = {**recipe.references, **_other_models(recipe)}
    others = {name: part for name, part in asked.items() if name != MAIN_TEACHER}
    report = check(recipe, models.get(MAIN_TEACHER))
    for name, part in others.items():
        as_teacher = replace(recipe, teacher=part)
        other = check(as_teacher, models.get(name))
        fresh = [f"{name!r}: {note}" for note in other.notes if note not in report.notes]
        report = replace(report, vocab=min(report.vocab, other.vocab), notes=(*report.notes, *fresh))
    check_vocabulary(recipe, report.vocab)
    return replace(report, stop_token_ids=frozenset(index for index in report.stop_token_ids if index < report.vocab))


def _build(
    config: RunConfig,
    report: PreflightReport,
    student: LanguageModel,
    models: Models,
    verifier: Verifier,
    reply: Reply | None,
    examples: Sequence[Example],
    held_out: Sequence[Example],
) -> Assembled:
    recipe, training = config.recipe, config.training
    learner = Learner(
        student,
        terms=[term.resolved(student.tokenizer.get_vocab().get) for term in recipe.terms],
        temperatures=recipe.temperatures,
        vocab=report.vocab,
        optimiser=config.optimiser,
        training=training,
    )
    actual = _loaded(config)
    loaded = {id(part): models[name] for name, part in _other_models(actual).items()}
    keeper = Keeper(config, vocab=report.vocab, device=student.device, autocast=learner.precision)
    built = {
        name: keeper.behind(
            name,
            teachers.build(
                part,
                student=student,
                load=lambda part: loaded[id(part)],
                vocab=report.vocab,
                microbatch_tokens=training.microbatch_tokens,
                wrap=config.wrap_prompts,
                autocast=learner.precision,
            ),
        )
        for name, part in actual.teachers.items()
    }
    teacher = built.pop(MAIN_TEACHER, None)
    text = _text(student, report)
    read = partial(_prompts, student, wrap=config.wrap_prompts)
    sampler_of, staleness = student_samplers(config, report, learner), config.asynchronous.staleness
    behaviour = BehaviourCopy(student) if staleness else None
    sampler = sampler_of(student)
    writes = sampler if behaviour is None else sampler_of(behaviour.model)
    prompts, held_out_prompts = read(examples), read(held_out)
    controls = dict(recipe.controlled)
    aids = Aids(controls=controls, prompts=prompts, judge=verifier.judge, reply=reply)
    return Assembled(
        student=student,
        teacher=teacher,
        report=report,
        text=text,
        sampler=sampler,
        examples=examples,
        prompts=prompts,
        held_out=held_out_prompts,
        verifier=verifier,
        writer=build_writer(config, report, learner, teacher=teacher, sampler=writes, text=text, aids=aids),
        learner=learner,
        teaching=Teaching(
            teacher if recipe.needs_of(MAIN_TEACHER) else None,
            references=built,
            compositions=recipe.compositions,
            keep_untaught=any(not term.needs for term in recipe.terms),
        ),
        evaluator=_evaluator(config, report, student, teacher, verifier, held_out_prompts, sampler, text, aids),
        aids=aids,
        controls=controls,
        gauges=_gauges(sampler, teacher, *built.values(), verifier),
        ahead=None if behaviour is None else Ahead(behaviour=behaviour, staleness=staleness),
    )


def _gauges(*parts: Sampler | Scorer | Verifier | None) -> tuple[Gauge, ...]:
    """Of the parts that have metrics of their own: those behind a server."""
    direct = [part.direct if isinstance(part, Cached) else part for part in parts]
    return tuple(part.figures for part in direct if isinstance(part, Gauged))


def _evaluator(
    config: RunConfig,
    report: PreflightReport,
    student: LanguageModel,
    teacher: Scorer | None,
    verifier: Verifier,
    prompts: Sequence[Prompt],
    sampler: Sampler,
    text: Text,
    aids: Aids,
) -> Evaluator | None:
    if not prompts:
        return None
    teacher = teacher.direct if isinstance(teacher, Cached) else teacher  # held-out responses do not come again
    measurable = teacher is not None and any(
        teacher.reading.prompt(prompt.example, read_by_student=prompt.token_ids).token_ids is not None for prompt in prompts
    )
    if teacher is not None and not measurable:
        _LOG.warning("No held-out prompt has what the teacher's context shows, so divergences are not evaluated.")
    ruler = Ruler(
        student,
        Teaching(teacher if measurable else None),
        vocab=report.vocab,
        microbatch_tokens=config.training.microbatch_tokens,
        chunk_mib=config.training.head_chunk_mib,
    )
    limit = config.evaluation.max_new_tokens or response_limit(config.recipe.rollouts)
    return Evaluator(
        prompts,
        sampler=sampler,
        text=text,
        verifier=verifier,
        settings=replace(config.evaluation, max_new_tokens=limit),
        ruler=ruler,
        teacher_texts=_given_texts(prompts, text, limit) if measurable else (),
        seed=config.seed,
        write=partial(write_alone, config.recipe.rollouts, sampler=sampler, text=text, seed=config.seed, aids=aids)
        if isinstance(config.recipe.rollouts, EnvironmentRollouts)
        else None,
    )


def _given_texts(prompts: Sequence[Prompt], text: Text, limit: int) -> list[Rollout]:
    """The held-out data's own responses, where it has any."""
    given = [prompt for prompt in prompts if prompt.example.response is not None]
    return given_responses(given, text=text, column="response", max_tokens=limit)


def _text(student: LanguageModel, report: PreflightReport) -> Text:
    tokenizer = student.tokenizer
    return Text(
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
        encode_response=lambda text: chat.render_response(tokenizer, text, stop_token_id=report.end_token_id),
    )


def _prompts(student: LanguageModel, examples: Sequence[Example], *, wrap: chat.Wrap) -> list[Prompt]:
    return [
        Prompt(
            example=example,
            token_ids=torch.tensor(
                chat.render(student.tokenizer, example.prompt, options=student.template_options, wrap=wrap), dtype=torch.long
            ),
        )
        for example in examples
    ]
