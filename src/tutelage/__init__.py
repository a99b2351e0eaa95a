"""On-policy distillation of language models: a method is a value, one loop runs every one of them."""

__version__ = "0.1.0"
