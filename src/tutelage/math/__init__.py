"""Divergences, estimators, supports and reductions: tensors in, tensors out. No models, configuration, or randomness."""
