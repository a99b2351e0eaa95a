"""Tiny tasks and models that are made on the spot, and the tour that uses them."""
