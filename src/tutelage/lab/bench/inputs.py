"""Models, prompts and lengths of a bench of steps: written once, read by both sides."""

import json
import random
from pathlib import Path

from tutelage.lab.bench.settings import StepBench
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer

STUDENT, TEACHER, PROMPTS = "student", "teacher", "prompts.jsonl"
LEARNING_RATE = 1e-4
_FIRST_CHARACTER, _SURROGATES = 0x4E00, range(0xD800, 0xE000)
_NUM_MARKS = 3  # unknown, padding, end of sequence
_HEAD_DIM = 64


def write(folder: Path, settings: StepBench) -> None:
    """Two random models that share a tokenizer of one id per character, and prompts for all steps."""
    characters = alphabet(settings.vocab - _NUM_MARKS)
    tokenizer = make_tokenizer(characters)
    for seed, (name, size) in enumerate([(STUDENT, settings.student), (TEACHER, settings.teacher)]):
        make_model(folder / name, tokenizer=tokenizer, shape=_shape(settings, *size), seed=2 * settings.seed + seed)
    draws = random.Random(settings.seed)
    rows = [
        {"id": str(index), "prompt": "".join(draws.choices(characters, k=settings.prompt))}
        for index in range((settings.pairs + 1) * settings.responses)
    ]
    (folder / PROMPTS).write_text("".join(json.dumps(row) + "\n" for row in rows))


def alphabet(count: int) -> str:
    """So many different characters, none of which is a space or half of another."""
    codes = (code for code in range(_FIRST_CHARACTER, 0x110000) if code not in _SURROGATES)
    return "".join(chr(next(codes)) for _ in range(count))


def planned_lengths(settings: StepBench, step: int) -> list[int]:
    """Tokens of each response of a step, in the order of its prompts."""
    lengths = list(settings.lengths())
    random.Random(1000 * settings.seed + step).shuffle(lengths)
    return lengths


def _shape(settings: StepBench, width: int, layers: int) -> Shape:
    heads = max(1, width // _HEAD_DIM)
    return Shape(
        hidden=width,
        layers=layers,
        heads=heads,
        kv_heads=heads // 2 if heads % 2 == 0 else heads,
        head_dim=min(_HEAD_DIM, width),
        intermediate=3 * width,
        max_context=settings.prompt + max(settings.lengths()),
    )
