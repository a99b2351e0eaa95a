"""The loop, the optimiser step, and checkpoints."""
