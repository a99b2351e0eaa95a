"""Talking to models behind a server: one transport, a client of vLLM, a client of any text endpoint, a recorder."""

from tutelage.serving.settings import Patience
from tutelage.serving.transport import Refused, Transport
from tutelage.serving.vllm import VLLM, Canary, Completion, Drawing, Scores

__all__ = ["VLLM", "Canary", "Completion", "Drawing", "Patience", "Refused", "Scores", "Transport"]
