import io

import pytest
from rich.console import Console

from tutelage.tracking import wording
from tutelage.tracking.progress import RunProgress
from tutelage.tracking.registry import describe


def test_elsewhere_than_on_a_terminal_a_line_appears_every_few_steps_and_at_the_end():
    stream = io.StringIO()
    with RunProgress(25, every=10, console=Console(file=stream, soft_wrap=True)) as progress:
        for step in range(1, 26):
            progress.update(step, {"signal/reverse_kl_nats": 0.5})
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["10/25", "20/25", "25/25"]
    assert all("reverse kl 0.500" in line for line in lines)


def test_a_line_is_repeated_only_where_its_numbers_changed():
    stream = io.StringIO()
    with RunProgress(20, every=10, console=Console(file=stream, soft_wrap=True)) as progress:
        progress.update(10, {"signal/reverse_kl_nats": 0.5})
        progress.update(10, {"eval/mean_length_tokens": 3.0})  # is not shown
        progress.update(10, {"eval/greedy_accuracy_fraction": 0.5})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "greedy accuracy 50.0 %" in lines[1]


def test_a_line_tells_remaining_time_speed_and_the_last_evaluation():
    stream = io.StringIO()
    with RunProgress(20, every=1, console=Console(file=stream, soft_wrap=True)) as progress:
        progress.update(1, {"eval/greedy_accuracy_fraction": 0.5})
        progress.update(2, {"train/tokens_per_second": 1234.0})
    last = stream.getvalue().splitlines()[-1]
    assert "left" in last
    assert "1,234 tokens/s" in last
    assert "greedy accuracy 50.0 %" in last


def test_a_terminal_gets_a_bar():
    stream = io.StringIO()
    with RunProgress(4, start=2, console=Console(file=stream, force_terminal=True, width=120)) as progress:
        progress.update(3, {"train/tokens_per_second": 10.0})
        progress.say("between")
    shown = stream.getvalue()
    assert "3/4" in shown
    assert "10 tokens/s" in shown
    assert "between" in shown


def test_what_a_model_wrote_cannot_steer_the_terminal():
    stream = io.StringIO()
    with RunProgress(1, console=Console(file=stream, soft_wrap=True)) as progress:
        progress.show_rollouts(["[bold]1+1=[/bold]"], ["2\x1b[2J\x07\u202e\r"])
    shown = stream.getvalue()
    assert "[bold]1+1=[/bold]" in shown  # shown as it is, not taken for a style
    assert "\\u001b[2J\\u0007\\u202e\\u000d" in shown
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(shown)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0 s"), (59.6, "1 min"), (200.0, "3 min 20 s"), (3600.0, "1 h"), (7500.0, "2 h 5 min")]
)
def test_times_are_told_in_words(seconds: float, told: str):
    assert wording.duration(seconds) == told


def test_numbers_are_told_in_their_unit():
    share, nats = describe("eval/greedy_accuracy_fraction"), describe("eval/reverse_kl_nats")
    assert wording.value(share, 0.7625) == "76.2 %"
    assert wording.change(share, 0.5, 0.45) == "\N{MINUS SIGN}5.0 points"
    assert wording.value(nats, 0.80312) == "0.803"
    assert wording.change(nats, 0.5, 1.75) == "+1.25 nats"
    assert wording.value(nats, 0.00012) == "1.2e-04"
    assert wording.value(nats, float("nan")) == "not finite"
    assert wording.plain(123456.7) == "123,457"
    assert wording.plain(-0.5) == "\N{MINUS SIGN}0.500"
