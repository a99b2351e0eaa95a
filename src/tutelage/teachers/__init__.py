"""Who scores the tokens, and what only the teacher reads."""
