"""How long a server is waited for, how often it is asked again, and how much it is asked at once."""

from dataclasses import dataclass

from tutelage.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """With a server. The longest that one request can take is `(retries + 1) * timeout_seconds` and the waits."""

    timeout_seconds: float = 120.0
    """Longest silence of the server in the middle of a request. The first one to a fresh server may compile for 20 s."""
    connect_seconds: float = 5.0
    """Longest time until a connection stands."""
    retries: int = 4
    """Further tries after a failure that may pass: no connection, silence, a broken reply, statuses 429 and 5xx."""
    first_wait_seconds: float = 0.5
    """Wait before the second try; it doubles from try to try, and is shortened at random by up to a half."""
    longest_wait_seconds: float = 30.0
    """Bound on a wait, also on one that the server asks for."""
    in_flight: int = 16
    """Requests that are under way at the same time; further ones wait here and not in the server's queue."""
    sequences: int = 8
    """Sequences in one scoring request."""

    def __post_init__(self) -> None:
        if min(self.timeout_seconds, self.connect_seconds) <= 0.0 or min(self.first_wait_seconds, self.retries) < 0:
            raise ConfigError(f"Patience needs time limits > 0 and waits and retries >= 0, got {self}.")
        if min(self.in_flight, self.sequences) < 1:
            raise ConfigError(
                f"Patience needs in_flight >= 1 and sequences >= 1, got {self.in_flight!r} and {self.sequences!r}."
            )
