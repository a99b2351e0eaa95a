"""Who says whether a response is right: exact match, mathematics, or a function of the user's."""

from typing import assert_never

from tutelage.verifiers.base import Verifier
from tutelage.verifiers.exact import ExactMatchVerifier, SilentVerifier
from tutelage.verifiers.functions import UserFunctionVerifier
from tutelage.verifiers.mathematics import MathematicsVerifier
from tutelage.verifiers.parts import AnyVerifier, ExactMatch, FunctionVerifier, MathVerifier, NoVerifier

__all__ = ["AnyVerifier", "ExactMatch", "FunctionVerifier", "MathVerifier", "NoVerifier", "Verifier", "build"]


def build(part: AnyVerifier) -> Verifier:
    """The verifier that a choice describes.

    Raises:
        ConfigError: What it needs is missing: a package, a module, a function.
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
        case _:
            assert_never(part)
