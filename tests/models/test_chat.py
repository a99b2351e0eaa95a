import json
import string
from copy import deepcopy
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tutelage.errors import DataError, ModelError
from tutelage.lab.tiny_models import make_tokenizer
from tutelage.models import chat

USER = ({"role": "user", "content": "1+2="},)


def _with_template(tokenizer, template):
    other = deepcopy(tokenizer)
    other.chat_template = template
    return other


def test_plain_text_is_taken_as_it_is(tokenizer):
    assert chat.render(tokenizer, "1+2=") == tokenizer.convert_tokens_to_ids(["1", "+", "2", "="])


def test_a_conversation_ends_with_the_opening_of_the_response(tokenizer):
    ids = chat.render(tokenizer, USER)
    assert tokenizer.convert_ids_to_tokens(ids) == ["<user>", "1", "+", "2", "=", "<assistant>"]


def test_plain_text_can_be_wrapped_into_a_turn(tokenizer):
    assert chat.render(tokenizer, "1+2=", wrap="always") == chat.render(tokenizer, USER)
    assert chat.render(tokenizer, "1+2=", wrap="never") == chat.render(tokenizer, "1+2=")


def test_a_tokenizer_that_ends_texts_does_not_end_prompts(data_folder):
    tokenizer = AutoTokenizer.from_pretrained(data_folder / "tokenizers" / "t5_small")
    assert tokenizer("a b")["input_ids"][-1] == tokenizer.eos_token_id
    assert chat.render(tokenizer, "a b") == tokenizer("a b")["input_ids"][:-1]


def test_options_reach_the_template(tokenizer):
    branching = _with_template(tokenizer, "{% if quiet %}0{% else %}1{% endif %}")
    assert chat.render(branching, USER, options={"quiet": True}) == tokenizer.convert_tokens_to_ids(["0"])
    assert chat.render(branching, USER, options={"quiet": False}) == tokenizer.convert_tokens_to_ids(["1"])


def test_a_conversation_without_a_template_is_refused(tokenizer):
    with pytest.raises(ModelError, match="no chat template"):
        chat.render(_with_template(tokenizer, None), USER)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(10 ** 12) %}{% endfor %}",
        "{% set _ = messages.append(1) %}",
    ],
)
def test_a_template_that_reaches_outside_its_sandbox_is_refused(tokenizer, template):
    with pytest.raises(ModelError, match="cannot render"):
        chat.render(_with_template(tokenizer, template), USER)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].nothing.at.all }}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 // 0 }}",
        "{{ raise_exception('roles must alternate') }}",
        "{% if %}",
    ],
)
def test_a_template_that_fails_is_refused_in_words(tokenizer, template):
    with pytest.raises(ModelError, match="cannot render"):
        chat.render(_with_template(tokenizer, template), USER)


def test_words_of_the_template_language_in_a_prompt_are_only_text():
    tokenizer = make_tokenizer(string.printable, chat=True)
    content = "{{ 7 * 7 }} {% for x in y %} {# gone #} {{ messages.__class__ }}"
    ids = chat.render(tokenizer, ({"role": "user", "content": content},))
    assert tokenizer.decode(ids[1:-1]) == content


@pytest.mark.parametrize("prompt", ["1 & 2", ({"role": "user", "content": "1 & 2"},)])
def test_text_that_the_tokenizer_cannot_read_is_refused(tokenizer, prompt):
    few = Tokenizer(WordLevel(vocab={"1": 0, "2": 1}))  # without a token for the unknown
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=few, chat_template=tokenizer.chat_template)
    with pytest.raises(DataError, match="1 & 2"):
        chat.render(tokenizer, prompt)


def test_a_response_ends_once(tokenizer):
    plain = tokenizer.convert_tokens_to_ids(["3", ";"])
    assert chat.render_response(tokenizer, "3;", stop_token_id=5) == [*plain, 5]
    assert chat.render_response(tokenizer, "3;", stop_token_id=None) == plain


def test_a_real_template_renders_real_problems_with_and_without_thinking(data_folder):
    qwen: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(data_folder / "tokenizers" / "qwen3")
    qwen.chat_template = (data_folder / "chat_templates" / "qwen3_30b.jinja").read_text()
    rows = Path(data_folder / "gsm8k").glob("*.jsonl")
    question = json.loads(next(rows).read_text().splitlines()[0])["question"]
    text = qwen.decode(chat.render(qwen, ({"role": "user", "content": question},)))
    assert question in text
    assert text.startswith("<|im_start|>user\n")
    assert text.endswith("<|im_start|>assistant\n")
    silent = qwen.decode(chat.render(qwen, ({"role": "user", "content": question},), options={"enable_thinking": False}))
    assert silent.startswith(text)
    assert "</think>" in silent
