"""An endpoint that only gives text, as a choice: where it is, what it costs, where its answers are kept."""

from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import ConfigError
from tutelage.serving.recorder import Kept, Replaying
from tutelage.serving.settings import Patience
from tutelage.serving.text import Prices, TextClient
from tutelage.serving.transport import Transport


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEndpoint:
    """An OpenAI-compatible chat endpoint: vLLM, another server, or a provider."""

    url: str = ""
    """Address without a path, such as `http://127.0.0.1:8000`."""
    model: str = ""
    """Name of the model there."""
    key_variable: str | None = None
    """Environment variable that holds the key; none sends no key. The key itself is never written anywhere."""
    recording: str = ""
    """File in which every answer is kept, a line of JSON each. What it has is not asked for again. Empty keeps nothing."""
    offline: bool = False
    """Take answers from the recording only and ask nobody; what it lacks ends the run."""
    prices: Prices = Prices()
    """For the cost among the metrics, and for its bound."""
    most_cost: float | None = None
    """Nothing more is asked once this much was spent in this run, in the currency of the prices; none sets no bound."""
    patience: Patience = Patience()
    """Time limits and retries."""

    def __post_init__(self) -> None:
        if self.offline and not self.recording:
            raise ConfigError("TextEndpoint.offline takes answers from a recording, and none is named. Name its file.")
        if self.most_cost is not None and (self.most_cost <= 0.0 or self.prices == Prices()):
            raise ConfigError(
                f"TextEndpoint.most_cost is {self.most_cost!r} at {self.prices}: a bound on the cost is > 0, and needs the "
                "prices that it is counted by."
            )


def open_endpoint(endpoint: TextEndpoint, *, setting: str) -> TextClient:
    """A client of the endpoint; nothing is asked yet.

    Args:
        endpoint: The choice.
        setting: The flag that names it, for messages.

    Raises:
        ConfigError: It has no address, or no model.
        DataError: The recording cannot be used.
    """
    if not endpoint.model or not (endpoint.url or endpoint.offline):
        raise ConfigError(
            f"A text endpoint needs an address and a model, got {endpoint.url!r} and {endpoint.model!r}. Name both: "
            f"{setting}url http://127.0.0.1:8000 {setting}model NAME."
        )
    if endpoint.offline:
        channel = Replaying(Path(endpoint.recording).expanduser())
    else:
        channel = Transport(endpoint.url, patience=endpoint.patience, key_variable=endpoint.key_variable)
        if endpoint.recording:
            channel = Kept(channel, Path(endpoint.recording).expanduser())
    return TextClient(channel, model=endpoint.model, prices=endpoint.prices, most_cost=endpoint.most_cost)
