"""JSON that others wrote: arguments, variables, and the control plane's answers."""

import json
import re
from typing import Any, Final

__all__ = ["loads"]

#: An escape of JSON; the group is half of a surrogate pair without its other half (RFC 8259, 8.2).
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def loads(text: str | bytes) -> Any:
    """Decode JSON. Half of a character is U+FFFD: no program takes it as an argument.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    content = text if isinstance(text, str) else text.decode()
    return json.loads(_ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], content))
