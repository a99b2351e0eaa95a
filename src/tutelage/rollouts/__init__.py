"""Who writes the responses, and how tokens are drawn."""
