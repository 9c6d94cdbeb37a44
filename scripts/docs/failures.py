"""The runbook's entries for failure reasons: what to look for, what to do, and what becomes of the run.

They stand between two comments::

    <!-- entries for failure reasons, written by `make docs` -->
    <!-- end of the entries -->
"""

import re
from typing import Final

from oz_agent_worker.controlplane.rules.outcome_mapping import ending_of
from oz_agent_worker.protocol.failure_guide import GUIDE, Entry
from oz_agent_worker.protocol.frames import TaskFailed
from oz_agent_worker.protocol.outcome import FailureReason

__all__ = ["entry", "with_entries"]

_ENTRIES: Final = re.compile(
    r"(?P<begin><!-- entries for failure reasons, written by `make docs` -->\n).*?"
    r"(?P<end><!-- end of the entries -->)",
    re.DOTALL,
)


def entry(reason: FailureReason, guide: Entry) -> str:
    """Write the entry of one reason, ending in a newline."""
    return (
        f"### {reason}\n\n"
        f"- **Seen:** {guide.seen}.\n"
        f"- **Means:** {guide.means}\n"
        f"- **Do:** {guide.mend}\n"
        f"- **The run** {_end_of_run(reason)}.\n"
    )


def _end_of_run(reason: FailureReason) -> str:
    """What our control plane makes of a report with this reason, and no exit code."""
    if reason is FailureReason.CLEANUP:
        return "has ended before, and stays as it is"  # counted in the metrics alone
    ending = ending_of(TaskFailed(task_id="", message="", failure_reason=reason))
    retry = {True: ", retryable", False: ", not retryable", None: ""}[ending.retryable]
    return f"ends as `{ending.state}`{retry}"


def with_entries(document: str) -> str:
    """Write all entries of a document anew."""
    entries = "\n".join(entry(reason, guide) for reason, guide in sorted(GUIDE.items()))
    return _ENTRIES.sub(lambda m: f"{m['begin']}\n{entries}\n{m['end']}", document)
