"""How long a test waits for something before it calls it hung.

A test fails for a wrong result, never for a slow one. So this is the only deadline of the tests:
far above what any wait takes, on a machine with much other work too.
"""

from typing import Final

__all__ = ["HANG_TIMEOUT"]

HANG_TIMEOUT: Final = 180.0
"""In seconds. Below pytest's own time-out, so that a wait that hangs is named."""
