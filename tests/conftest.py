"""What holds for every test, whatever started it."""

from __future__ import annotations

import signal

# A shell that starts a job in the background has it ignore ^C, and every process below inherits that: the programs
# under test are sent ^C, so they have to start with its default.
signal.signal(signal.SIGINT, signal.default_int_handler)
