"""Who says whether a response is right: exact match, mathematics, a function of the user's, or another model."""

from typing import assert_never

from tutelage.verifiers.base import Verifier
from tutelage.verifiers.exact import ExactMatchVerifier, SilentVerifier
from tutelage.verifiers.functions import UserFunctionVerifier
from tutelage.verifiers.judge import Judge
from tutelage.verifiers.mathematics import MathematicsVerifier
from tutelage.verifiers.parts import AnyVerifier, ExactMatch, FunctionVerifier, JudgeVerifier, MathVerifier, NoVerifier

__all__ = [
    "AnyVerifier",
    "ExactMatch",
    "FunctionVerifier",
    "Judge",
    "JudgeVerifier",
    "MathVerifier",
    "NoVerifier",
    "Verifier",
    "build",
]


def build(part: AnyVerifier) -> Verifier:
    """The verifier that a choice describes.

    Raises:
        ConfigError: What it needs is missing: a package, a module, a function, an address.
    """
    match part:
        case NoVerifier():
            return SilentVerifier()
        case ExactMatch():
            return ExactMatchVerifier(part)
        case MathVerifier():
            return MathematicsVerifier(part)
        case FunctionVerifier():
            return UserFunctionVerifier(part)
        case JudgeVerifier():
            return Judge(part)
        case _:
            assert_never(part)
