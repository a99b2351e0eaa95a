"""The worker's end of the wire: one JSON value per line, in and out."""

import json
import os
import sys
from typing import Any, final


@final
class Channel:
    """Standard input and output, kept from everything else in the process."""

    def __init__(self) -> None:
        """Take standard output; what libraries print goes to standard error from now on."""
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def wait(self) -> dict[str, Any]:
        """The next message; ends the process where the other side has gone."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        return json.loads(line)

    def send(self, message: object) -> None:
        """Say something."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()
