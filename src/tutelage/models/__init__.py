"""Language models as the loop sees them: a backbone, a head, and a tokenizer."""
