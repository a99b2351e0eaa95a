"""The command line. Starting it imports no torch; a command imports what it needs when it runs."""
