"""What carries the sources out, one module per family of them."""
