"""Mutants that no test can notice, because the program does the same; each with its reason."""

from collections.abc import Mapping
from typing import Final

__all__ = ["EQUIVALENT"]

_LONG_PONG = "no worker has sent 10^19 pings: a longer number is ignored by the check for the last ping, too"

EQUIVALENT: Final[Mapping[str, str]] = {
    "oz_agent_worker.controlplane.rules.scheduling:place_runs: 1 -> 2": (
        "the ticks give an order: by how much they grow does not matter"
    ),
    "oz_agent_worker.protocol.session:Session.receive_pong: 20 -> 21": _LONG_PONG,
    "oz_agent_worker.protocol.session:Session.receive_pong: len(payload) < 20 -> (len(payload) <= 20)": (
        _LONG_PONG
    ),
    "oz_agent_worker.worker.backends.kubernetes.logs.log_lines:LogReader.__init__: 0 -> 1 (2)": (
        "the first line sets how much of it is left out before that is used"
    ),
    "oz_agent_worker.worker.backends.kubernetes.logs.log_lines:LogReader.__init__: False -> True (3)": (
        "each line sets whether it is counted before that is used"
    ),
    "oz_agent_worker.worker.backends.kubernetes.preflight.probe_job:build_preflight_job: False -> True": (
        "the worker's variables are taken from its containers, so that none names a Secret"
    ),
    "oz_agent_worker.worker.backends.kubernetes.preflight.probe_job:build_preflight_job: True -> False": (
        "of the planned Job only the Pod is used, and cleanup sets the Job's time to live"
    ),
    "oz_agent_worker.worker.backends.kubernetes.status.ending:surplus_pod: len(state.pods) + state.replaced"
    " <= 1 -> (len(state.pods) + state.replaced < 1)": (
        "with one Pod the rest of the function finds nothing"
    ),
}
