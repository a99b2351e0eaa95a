"""Our side and TRL's in one run: the same inputs, one thread each, one at a time, in alternating order."""
