"""A teacher that only gives text: what it writes, and what a run makes of it."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.pairs import Pair, make_pair
from tests.serving.chat import chat_endpoint
from tests.serving.conftest import QUICK
from tests.serving.fake import FakeServer

from tutelage import data, recipes
from tutelage.cli.main import main
from tutelage.data import DataSource
from tutelage.errors import ConfigError, DataError, ServerError
from tutelage.run.assembly import assemble
from tutelage.run.text_teacher import TextTeacher, write_responses
from tutelage.serving.endpoint import TextEndpoint


@pytest.fixture
def pair(tmp_path) -> Pair:
    return make_pair(tmp_path / "pair")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Doubles the number before the plus; the sum of threes is cut."""

    def says(messages):
        number = int(messages[-1]["content"].partition("+")[0])
        return (f"{2 * number}", "length") if number == 3 else (f"{2 * number};", "stop")

    with chat_endpoint(says) as found:
        yield found


def teacher_of(server: FakeServer, **settings) -> TextTeacher:
    return TextTeacher(endpoint=TextEndpoint(url=server.url, model="big", patience=QUICK), **settings)


def test_a_run_trains_on_what_was_written_as_the_student_would_have_written_it(pair, server, tmp_path):
    file = tmp_path / "written.jsonl"
    write_responses(DataSource(path=str(pair.data), limit=4), teacher_of(server), file)
    config = pair.config("opd", tmp_path / "run", evaluation_data=None)
    config = replace(config, recipe=recipes.sft(max_new_tokens=16), data=DataSource(path=str(file)))
    run = assemble(config)
    rollouts = run.writer.write(run.prompts, step=1)
    ids, stop = run.student.tokenizer, run.report.end_token_id
    assert stop is not None
    for number, rollout in enumerate(rollouts):
        own = ids(f"{number}+{number}=")["input_ids"]
        assert rollout.prompt_ids.tolist() == own, "the prompt is the student's own"
        text = ids(f"{2 * number}" if number == 3 else f"{2 * number};", add_special_tokens=False)["input_ids"]
        assert rollout.response_ids.tolist() == (text if number == 3 else [*text, stop]), "a cut is never an end"
        assert rollout.finish == ("length" if number == 3 else "stop")


def test_every_column_but_the_response_is_kept(pair, server, tmp_path):
    file = tmp_path / "deep" / "written.jsonl"
    found = write_responses(DataSource(path=str(pair.data), limit=5), teacher_of(server), file)
    assert (found.responses, found.cut, found.prompt_tokens) == (5, 1, 50)
    before, after = data.load(DataSource(path=str(pair.data), limit=5)), data.load(DataSource(path=str(file)))
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        assert replace(new, response=None, finish_reason=None) == replace(old, response=None, finish_reason=None)
        assert new.response == (f"{2 * number}" if number == 3 else f"{2 * number};")


def test_several_responses_to_a_prompt_have_seeds_and_names_of_their_own(pair, server, tmp_path):
    teacher = teacher_of(server, n=3, temperature=0.7, seed=5, system="Be brief.")
    write_responses(DataSource(path=str(pair.data), limit=2), teacher, tmp_path / "w.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["sum-0", "sum-0#2", "sum-0#3", "sum-1", "sum-1#2", "sum-1#3"]
    sent = [body for _, body in server.requests]
    assert sorted(body["seed"] for body in sent) == [5, 5, 6, 6, 7, 7]
    assert all(body["messages"][0] == {"role": "system", "content": "Be brief."} for body in sent)
    assert all(isinstance(row["prompt"], str) for row in rows), "the student does not read what the teacher was told"


def test_after_an_interruption_only_what_is_missing_is_asked_for(pair, server, tmp_path):
    file = tmp_path / "w.jsonl"
    answer, asked = server._answer, []

    def fails_once(path, request):
        asked.append(request)
        if len(asked) == 5:
            return 400, {"error": {"message": "quota exceeded"}}
        return answer(path, request)

    server._answer = fails_once
    teacher = teacher_of(server)
    teacher = replace(teacher, endpoint=replace(teacher.endpoint, patience=replace(QUICK, in_flight=1)))
    with pytest.raises(ServerError, match="quota exceeded"):
        write_responses(DataSource(path=str(pair.data)), teacher, file)
    assert not file.exists()
    kept = tmp_path / "w.answers.jsonl"
    answered = len(kept.read_text().splitlines())
    assert answered >= 4, "what came before the refusal is not lost"
    kept.write_text(kept.read_text() + '{"key": "half a li')  # what a writer that is killed may leave
    found = write_responses(DataSource(path=str(pair.data)), teacher, file)
    assert found.responses == 12
    assert len(asked) == 13, "twelve answers and one refusal"
    assert found.prompt_tokens == 10 * (12 - answered), "of those that were asked for now"


def test_what_cannot_be_written_is_refused_before_anything_is_asked(pair, server, tmp_path):
    source = DataSource(path=str(pair.data))
    (tmp_path / "there.jsonl").write_text("")
    for name, words in (("there.jsonl", "exists"), ("rows.parquet", "ends otherwise")):
        with pytest.raises(ConfigError, match=words):
            write_responses(source, teacher_of(server), tmp_path / name)
    with pytest.raises(ConfigError, match="all the same"):
        teacher_of(server, n=2)
    with pytest.raises(ConfigError, match="n and max_tokens >= 1"):
        teacher_of(server, n=0)
    with pytest.raises(ConfigError, match="--teacher-url"):
        write_responses(source, TextTeacher(), tmp_path / "w.jsonl")
    talks = tmp_path / "talks.jsonl"
    talks.write_text(json.dumps({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1="}]}) + "\n")
    with pytest.raises(DataError, match="begins with a system turn"):
        write_responses(DataSource(path=str(talks)), teacher_of(server, system="t"), tmp_path / "w.jsonl")
    assert not server.requests


def test_a_folder_that_is_full_keeps_the_answers(pair, server, tmp_path):
    (tmp_path / "file").write_text("")
    teacher = teacher_of(server)
    teacher = replace(teacher, endpoint=replace(teacher.endpoint, recording=str(tmp_path / "kept.jsonl")))
    with pytest.raises(DataError, match="The answers are kept"):
        write_responses(DataSource(path=str(pair.data), limit=2), teacher, tmp_path / "file" / "w.jsonl")
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 2


def test_a_recording_that_cannot_be_written_is_refused_before_anything_is_asked(pair, server, tmp_path):
    (tmp_path / "file").write_text("")
    teacher = teacher_of(server)
    teacher = replace(teacher, endpoint=replace(teacher.endpoint, recording=str(tmp_path / "file" / "kept.jsonl")))
    with pytest.raises(DataError, match="Answers cannot be kept"):
        write_responses(DataSource(path=str(pair.data), limit=2), teacher, tmp_path / "w.jsonl")
    assert not server.requests


def test_the_command_writes_a_file_and_says_what_it_cost(pair, server, tmp_path, capsys):
    rows = [json.loads(line) for line in pair.data.read_text().splitlines()]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"question": row["prompt"]}) + "\n" for row in rows))
    output = tmp_path / "w.jsonl"
    given = ["data", "write", str(questions), str(output), "--teacher-url", server.url, "--teacher-model", "big"]
    given += ["--column", "prompt=question", "--limit", "4", "--prompt-price", "1e6"]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["responses"], found["cut"], found["cost"]) == (4, 1, 40.0)
    assert [example.response for example in data.load(DataSource(path=str(output)))] == ["0;", "2;", "4;", "6"]
    output.unlink()
    server.stop()
    assert main([*given, "--offline"]) == 0
    shown = capsys.readouterr()
    assert "4 responses in" in shown.out
    assert "wrote 4 of 4 responses" in shown.err
    assert main([*given[:-6], "--column", "prompt"]) == 2
    assert main(["data", "wirte", "a", "b"]) == 2
    assert "did you mean 'write'" in capsys.readouterr().err
