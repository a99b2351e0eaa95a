"""The process that compares mathematics: one request a line on standard input, one answer a line on standard output.

It is a process of its own because parsing untrusted expressions can hang inside C code or take all memory, where no
exception reaches; because math-verify's own time limit works in a main thread only; and so that nothing of it touches
the training process. It imports nothing of this package, so that it starts in about half a second.
"""

import json
import logging
import resource
import signal
import sys


def main() -> None:
    """Answer requests until standard input ends. A request that takes too long ends the process."""
    timeout_seconds, memory_mib = float(sys.argv[1]), int(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not be taken for an answer
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20, memory_mib << 20))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also inside C code
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        gold, response = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds)
        reference = parse(gold, parsing_timeout=0)
        correct = bool(reference) and bool(verify(reference, parse(response, parsing_timeout=0), timeout_seconds=0))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        print(json.dumps([bool(reference), correct]), file=answers, flush=True)


if __name__ == "__main__":
    main()
