"""Word problems with their worked solutions, through the real Qwen3 tokenizer and chat template."""

import json

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tutelage.models import chat
from tutelage.teachers import build
from tutelage.teachers.parts import Frozen, NoContext, ReferenceSolution, SelfTeacher
from tutelage.types import Author, Example, Rollout, StepBatch

VOCAB = 151_669


@pytest.fixture(scope="module")
def qwen3(data_folder) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data_folder / "tokenizers" / "qwen3")
    tokenizer.chat_template = (data_folder / "chat_templates" / "qwen3_30b.jinja").read_text()
    return tokenizer


@pytest.fixture(scope="module")
def problems(data_folder) -> list[Example]:
    lines = (data_folder / "gsm8k" / "test.jsonl").read_text().splitlines()[:4]
    rows = [json.loads(line) for line in lines]
    return [
        Example(id=str(number), prompt=({"role": "user", "content": row["question"]},), solution=row["answer"])
        for number, row in enumerate(rows)
    ]


def self_teacher(student, context):
    return build(
        SelfTeacher(update=Frozen(), context=context),
        student=student,
        load=lambda part: pytest.fail("a self teacher loads nothing"),
        vocab=VOCAB,
        microbatch_tokens=2048,
    )


def test_question_and_solution_stand_whole_in_the_teachers_turn(make_model, qwen3, problems):
    student = make_model(tokenizer=qwen3, rows=VOCAB)
    teacher = self_teacher(student, ReferenceSolution())
    for problem in problems:
        own = chat.render(qwen3, problem.prompt)
        read = teacher.reading.prompt(problem, read_by_student=torch.tensor(own))
        text = qwen3.decode(read.token_ids.tolist())
        assert text.startswith("<|im_start|>user\n" + problem.prompt[0]["content"])
        assert problem.solution in text
        assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert problem.solution not in qwen3.decode(own)


def test_a_short_allowance_keeps_the_beginning_and_the_result_of_a_real_solution(make_model, qwen3, problems):
    teacher = self_teacher(make_model(tokenizer=qwen3, rows=VOCAB), ReferenceSolution(max_context_tokens=24))
    problem = max(problems, key=lambda problem: len(problem.solution or ""))
    read = teacher.reading.prompt(problem, read_by_student=torch.tensor([0]))
    text = qwen3.decode(read.token_ids.tolist())
    assert problem.prompt[0]["content"] in text
    assert problem.solution not in text
    assert problem.solution[:10] in text
    assert problem.solution.splitlines()[-1] in text  # "#### 42", the result
    assert read.reason == "injected:solution, cut in the middle"


def test_a_real_solution_changes_the_distributions_of_the_same_response_ids(make_model, qwen3, problems):
    student = make_model(tokenizer=qwen3, rows=151_936)
    rollouts = []
    for group, problem in enumerate(problems):
        ids = torch.tensor([*qwen3("The answer is 18 dollars.")["input_ids"], qwen3.eos_token_id])
        rollouts.append(
            Rollout(
                example=problem,
                group=group,
                prompt_ids=torch.tensor(chat.render(qwen3, problem.prompt)),
                response_ids=ids,
                authors=torch.full_like(ids, int(Author.STUDENT)),
                behaviour_log_probs=torch.zeros(len(ids)),
                finish="stop",
                text="The answer is 18 dollars.",
            )
        )
    batch = StepBatch.of(rollouts)
    signals = [self_teacher(student, context).score(batch).signal for context in (NoContext(), ReferenceSolution())]
    blind, seeing = ((signal.hidden @ signal.head.weight.T).log_softmax(-1) for signal in signals)
    assert blind.shape == (batch.num_rows, VOCAB)
    assert ((blind.exp() * (blind - seeing)).sum(-1) > 1e-4).all()
