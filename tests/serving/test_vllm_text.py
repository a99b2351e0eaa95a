"""Text from a real server: a teacher that writes, and a judge that cannot keep to the form."""

import json

import pytest
import torch
from tests.serving.test_vllm import place, teacher

from tutelage import data
from tutelage.data import DataSource
from tutelage.errors import VerifierError
from tutelage.models import LanguageModel, chat
from tutelage.run.text_teacher import TextTeacher, write_responses
from tutelage.serving.endpoint import TextEndpoint
from tutelage.types import Author, Example, Rollout
from tutelage.verifiers import JudgeVerifier, build

__all__ = ["teacher"]

pytestmark = [pytest.mark.served, pytest.mark.timeout(600)]


def endpoint(**settings) -> TextEndpoint:
    return TextEndpoint(url=place("teacher").url, model=place("teacher").folder, **settings)


def greedy(model: LanguageModel, prompt: str, *, limit: int) -> tuple[str, bool]:
    """The likeliest continuation of the prompt in the model's own template, and whether it was cut."""
    ids = chat.render(model.tokenizer, ({"role": "user", "content": prompt},), options={}, wrap="auto")
    drawn = list[int]()
    while len(drawn) < limit:
        with torch.no_grad():
            drawn.append(int(model.model(torch.tensor([[*ids, *drawn]])).logits[0, -1].argmax()))
        if drawn[-1] in model.stop_token_ids:
            return model.tokenizer.decode(drawn[:-1], skip_special_tokens=True), False
    return model.tokenizer.decode(drawn, skip_special_tokens=True), True


def test_a_teacher_writes_what_the_model_writes_in_its_own_template(teacher, tmp_path):
    prompts = [f"{number}+{number}=" for number in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    source, file = DataSource(path=str(tmp_path / "prompts.jsonl")), tmp_path / "written.jsonl"
    found = write_responses(source, TextTeacher(endpoint=endpoint(), max_tokens=12), file)
    assert found.prompt_tokens > 0
    rows = data.load(DataSource(path=str(file)))
    for prompt, row in zip(prompts, rows, strict=True):
        text, was_cut = greedy(teacher, prompt, limit=12)
        assert row.response == text
        assert row.finish_reason == ("length" if was_cut else "stop")


def test_a_judge_that_cannot_grade_ends_the_run_with_what_it_wrote():
    ids = torch.tensor([1])
    response = Rollout(
        example=Example(id="sum", prompt="1+1="),
        group=0,
        prompt_ids=ids,
        response_ids=ids,
        authors=torch.full_like(ids, int(Author.STUDENT)),
        behaviour_log_probs=torch.zeros(1),
        finish="stop",
        text="2",
    )
    part = JudgeVerifier(endpoint=endpoint(), template="{question}{response}=Score:", max_tokens=5)
    with pytest.raises(VerifierError, match=r"no grade to the response to 'sum'"):
        build(part).judge([response])
