"""How good a student is: accuracy, avg@k, pass@k, divergences and the look of its text, each with an interval."""

from tutelage.evaluation.evaluate import EvaluationResult, Judged, evaluate
from tutelage.evaluation.settings import EvaluationSettings

__all__ = ["EvaluationResult", "EvaluationSettings", "Judged", "evaluate"]
