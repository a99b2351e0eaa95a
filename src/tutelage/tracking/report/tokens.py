"""Rollouts in which each token is coloured by its divergence."""

import math
from collections.abc import Sequence

from tutelage.tracking import wording
from tutelage.tracking.report import palette
from tutelage.tracking.report.markup import element, escape, text
from tutelage.tracking.report.run import Run
from tutelage.tracking.rollout_table import RolloutRecord, Values, read_groups, read_table

_MOST_ROLLOUTS = 10
_MOST_TOKENS = 800
_LONG_PROMPT = 400
_AUTHORS = {"student": "s", "teacher": "t", "dataset": "d", "none": "n"}


def section(run: Run) -> str:
    """Rollouts of the first, a middle and the last table, with a legend; empty where there is no table."""
    tables = run.folder.rollout_files()
    if not tables:
        return ""
    steps = list(tables)
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]}, reverse=True)
    groups = {step: read_groups(tables[step]) for step in chosen}
    shown = {step: read_table(tables[step], rows=_spread(found)) for step, found in groups.items()}
    records = [record for found in shown.values() for record in found]
    is_kl = has_kl(records)
    buttons = [
        text(
            "button", f"Step {step}", type="button", data_step=str(step), aria_pressed="true" if step == chosen[0] else "false"
        )
        for step in chosen
    ]
    tabs = element("div", *buttons, class_="tabs", role="group", aria_label="Step") if len(chosen) > 1 else ""
    panes = [_pane(step, found, len(groups[step]), is_kl) for step, found in shown.items()]
    return "".join((legend(records, is_kl=is_kl), tabs, *panes))


def has_kl(records: Sequence[RolloutRecord]) -> bool:
    """Whether the reverse KL is known at any token; else tokens are coloured by the log-ratio."""
    return any(math.isfinite(number) for record in records for number in record.reverse_kl_nats)


def divergence(record: RolloutRecord, *, is_kl: bool) -> Values:
    """What a rollout's tokens are coloured by, in nats; NaN where it is not known."""
    if is_kl:
        return record.reverse_kl_nats or (math.nan,) * len(record.tokens)
    if not record.student_log_probs or not record.teacher_log_probs:
        return (math.nan,) * len(record.tokens)
    return [ours - theirs for ours, theirs in zip(record.student_log_probs, record.teacher_log_probs, strict=True)]


def _spread(groups: Sequence[int]) -> list[int]:
    """The rows of some rollouts: of different prompts first, then further ones of the same."""
    seen: dict[int, int] = {}
    rank = []
    for row, group in enumerate(groups):
        rank.append((seen.get(group, 0), row))
        seen[group] = seen.get(group, 0) + 1
    return sorted(row for _, row in sorted(rank)[:_MOST_ROLLOUTS])


def legend(records: Sequence[RolloutRecord], *, is_kl: bool) -> str:
    """What colours and styles of tokens mean."""
    bounds = ["0", *(f"{bound:g}" for bound in palette.LEVELS)]
    swatches = [element("span", escape(bound), class_=f"swatch k{place}") for place, bound in enumerate(bounds)]
    told = [
        text("span", f"{'reverse KL' if is_kl else 'log pi_S - log pi_T'}, nats"),
        element("span", *swatches, class_="swatches"),
    ]
    authors = {author for record in records for author in record.authors}
    for author, name in (("teacher", "the teacher"), ("dataset", "the data set")):
        if author in authors:
            told.append(element("span", text("span", "underlined", class_=f"a-{_AUTHORS[author]}"), f": {name} wrote it"))
    if any(weight == 0.0 for record in records for weight in record.weights):
        told.append(element("span", text("span", "faded", class_="w0"), ": weight 0"))
    told.append(text("span", "Point at a token, or tap it, for its numbers.", class_="muted"))
    return element("div", *told, class_="legend")


def _pane(step: int, records: Sequence[RolloutRecord], total: int, is_kl: bool) -> str:
    told = f"{len(records)} of {wording.count(total, 'rollout')} of step {step}."
    articles = [article(record, is_kl=is_kl) for record in records]
    return element("div", text("p", told, class_="muted"), *articles, class_="pane", data_step=str(step))


def article(record: RolloutRecord, *, is_kl: bool, name: str | None = None, marked: int | None = None) -> str:
    """One response token by token.

    Args:
        record: The response.
        is_kl: Whether tokens are coloured by the reverse KL.
        name: Stands above it in place of the prompt.
        marked: A token that is framed.
    """
    values = divergence(record, is_kl=is_kl)
    known = [number for number in values if math.isfinite(number)]
    facts = [wording.count(len(record.tokens), "token")]
    if known:
        facts.append(f"mean divergence {wording.plain(sum(known) / len(known))}")
    if record.finish == "length":
        facts.append("cut at the limit")
    if record.reward is not None and record.correct is None:
        facts.append(f"reward {wording.plain(record.reward)}")
    if record.answer is not None:
        facts.append(f"expected {_shortened(record.answer, 60)}")
    if record.context is not None:
        facts.append(f"context {record.context}")
    if record.feedback:
        facts.append(_shortened(record.feedback, 120))
    title = name if name is not None else record.example_id if record.example_id != record.prompt else ""
    head = element(
        "header", _mark(record), text("strong", title) if title else "", text("span", " · ".join(facts), class_="muted")
    )
    places = range(min(len(record.tokens), _MOST_TOKENS))
    body = "".join(_token(record, place, values[place], marked=place == marked) for place in places)
    rest = len(record.tokens) - _MOST_TOKENS
    more = text("p", f"{wording.count(rest, 'further token')} not shown.", class_="muted") if rest > 0 else ""
    above = prompt(record.prompt) if name is None else ""
    return element("article", head, above, element("div", body, class_="tokens"), more, class_="rollout")


def _mark(record: RolloutRecord) -> str:
    if record.correct is None:
        return ""
    return text("span", "right" if record.correct else "wrong", class_=f"mark {'good' if record.correct else 'bad'}")


def prompt(content: str) -> str:
    """A prompt, folded away where it is long."""
    if len(content) <= _LONG_PROMPT:
        return text("div", content, class_="prompt")
    summary = text("summary", f"Prompt, {wording.count(len(content), 'character')}")
    return element("details", summary, text("div", content, class_="prompt"))


def _token(record: RolloutRecord, place: int, value: float, *, marked: bool) -> str:
    weight = _at(record.weights, place)
    author = record.authors[place]
    classes = ["t", f"k{palette.level(value)}", f"a-{_AUTHORS.get(author, 'n')}"] + (["w0"] if weight == 0.0 else [])
    classes += ["differs"] if marked else []
    numbers = (
        _at(record.student_log_probs, place),
        _at(record.teacher_log_probs, place),
        _at(record.reverse_kl_nats, place),
        weight,
    )
    told = "|".join(
        (*("" if math.isnan(number) else f"{number:.4g}" for number in numbers), author, str(record.token_ids[place]))
    )
    return text("span", _visible(record.tokens[place]), class_=" ".join(classes), data_t=told)


def _visible(piece: str) -> str:
    if not piece:
        return "\N{MIDDLE DOT}"  # a token that ends inside a character
    return piece.replace("\t", "\N{RIGHTWARDS ARROW TO BAR}\t").replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n")


def _at(values: Values, place: int) -> float:
    return values[place] if values else math.nan


def _shortened(content: str, limit: int) -> str:
    return content if len(content) <= limit else content[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
