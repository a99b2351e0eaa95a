"""A hook of the documentation's build: `@tasks` becomes a section for each task of the lab."""

import re

from tutelage.lab.tasks import TASKS, Task

_DIRECTIVE = re.compile(r"^@tasks$", re.MULTILINE)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the directive of a page."""
    return _DIRECTIVE.sub(lambda _: tasks(), markdown)


def tasks() -> str:
    """What each task isolates, which claims it stands for, and one of its problems."""
    return "\n\n".join(map(_section, TASKS.values())) + "\n"


def _section(task: Task) -> str:
    example = task.problems(1, seed=0)[0]
    shown = "\n".join(
        f"{name:<9} {text}"
        for name, text in (
            ("prompt", example.prompt),
            ("solution", _short(str(example.solution))),
            ("context", example.privileged_context),
            ("expert", example.teacher_id),
        )
        if text
    )
    claim = _ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", task.claim)
    return f"## {task.name}\n\n{task.isolates}\n\n**Stands for:** {claim}\n\n```text\n{shown}\n```"


def _short(text: str) -> str:
    return text if len(text) <= 72 else f"{text[:48]}...{text[-18:]}"
