"""Language models as the loop sees them: a backbone, a head, and a tokenizer."""

from tutelage.models.language_model import LanguageModel
from tutelage.models.loading import load, load_without_weights
from tutelage.models.source import DType, Lora, ModelSource

__all__ = ["DType", "LanguageModel", "Lora", "ModelSource", "load", "load_without_weights"]
