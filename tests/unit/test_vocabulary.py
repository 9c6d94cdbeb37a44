"""Names are the field's standard terms, and one name stands for one thing.

The tables hold words that Kubernetes, asyncio, HTTP or queue literature does not use for
the thing, with the term that it uses.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "oz_agent_worker"

MODULES = {
    "controlplane": {
        "attendance": "lease_keeper",
        "cancelling": "run_states",
        "capacity": "scheduling",
        "dispatch": "scheduling",
        "ending": "outcome_mapping",
        "fencing": "ownership",
        "followers": "subscribers",
        "head": "ownership",
        "hub": "connections",
        "idlist": "in_list",
        "intake": "frame_handler",
        "orphans": "scheduling",
        "peer": "ownership",
        "states": "run_states",
        "wording": "messages",
    },
    "worker/backends/kubernetes": {
        "absence": "status/pending",
        "creation": "job_creation",
        "eventreader": "event_reader",
        "evidencelines": "timeline",
        "gonepods": "status/failure",
        "history": "event_history",
        "index": "watch/job_index",
        "inflight": "watch/consistency_check",
        "insistence": "api/retry",
        "inspected": "task_jobs",
        "judgement": "status",
        "letter": "render_text",
        "livelog": "log_follower",
        "logends": "api/log_tail",
        "longlogs": "api/log_tail",
        "observe": "status/evaluate",
        "owners": "adoption/liveness",
        "ownersight": "owner_permission",
        "ownership": "objects",
        "patience": "status/policy",
        "podevents": "status/events",
        "postmortem": "status/failure",
        "preflightjob": "probe_job",
        "questions": "adoption/liveness",
        "refusals": "api/retry",
        "silence": "api/transport",
        "sockets": "api/transport",
        "startup": "status/pending",
        "takeover": "adoption",
        "traces": "deleted_jobs",
        "trial": "probe_run",
        "troubles": "status/waiting",
        "views": "objects",
        "watchstate": "watch/store",
        "whoami": "self_identity",
    },
    "worker/backends/direct": {"leftovers": "recovery_scan", "opening": "start", "slots": "instance_slots"},
    "worker": {
        "choice": "exporter_settings",
        "complaints": "log_filter",
        "identity": "resource",
        "link": "connection",
        "lookout": "probe_ports",
        "notices": "events",
        "probeserver": "probes",
        "spans": "durations",
        "subjects": "resource",
        "taskrun": "executions",
        "taskwords": "task_text",
        "vitals": "events",
    },
    "agent": {"kinship": "process_tree", "lookup": "find_program"},
}
#: A client certificate's and a token's identity: the term of the Kubernetes documentation.
ALLOWED_MODULES = {"worker/backends/kubernetes/api/identity.py"}

CLASSES = {
    "Agenda": "NextDeadlines",
    "Doubt": "GracePeriod",
    "Found": "AdoptableExecution",
    "Grade": "Severity",
    "Ground": "ExecutionContext",
    "Handout": "Dispatch",
    "Holding": "RecordLock",
    "Kin": "ProcessSet",
    "Left": "Disconnected",
    "Opening": "ConnectionSnapshot",
    "Rescue": "Reassignment",
    "Routine": "TaskCommands",
    "Ruling": "Decision",
    "Standing": "CreatedJob",
    "StandsElsewhereError": "OwnedByAnotherWorkerError",
    "Station": "ConnectionSnapshot",
    "TaskLeft": "TaskReleased",
    "Trace": "DeletedJob",
    "WorkStands": "WorkStarted",
}

FUNCTIONS = {
    "bury": "reap",
    "give_up": "expire_due",
    "greeted": "sent_hello",
    "hurry": "reconnect_now",
    "insist": "retry_until_decided",
    "is_again": "same_instance",
    "lasting": "persistent",
    "may_speak_for": "may_report_for",
    "owes_an_end": "has_undelivered_report",
    "rearm": "extend_deadline",
    "recalled": "outcome_from_events",
    "said": "quote_cluster",
    "take_over": "adopt",
    "told_disruption": "disruption_from_events",
    "touched": "on_update",
    "unnoticed": "ignore_event",
    "vanished": "on_delete",
}

#: Two programs each have their own: they share no code, and a person meets one of them at a time.
SHARED_NAMES = {"ExitCode", "UsageError"}
#: One thing in two forms: as a frame or a request has it, and checked.
TWO_FORMS = {"AwsProvider", "HarnessAuthSecrets", "InferenceProviders", "SessionSharing"}


def definitions() -> Iterator[tuple[str, ast.AST]]:
    """Yield each module's path inside the package with each class and function in it."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.relative_to(SOURCE).as_posix(), node


def modules_of(room: str) -> Iterator[Path]:
    """Yield the modules and packages below a folder of the package."""
    for path in (SOURCE / room).rglob("*"):
        if path.suffix == ".py" or path.is_dir():
            yield path.relative_to(SOURCE)


@pytest.mark.parametrize("room", MODULES)
def test_modules_have_the_field_s_names(room: str) -> None:
    wrong = {
        str(path): MODULES[room][path.stem]
        for path in modules_of(room)
        if path.stem in MODULES[room] and str(path) not in ALLOWED_MODULES
    }
    assert wrong == {}


def test_classes_have_the_field_s_names() -> None:
    wrong = [
        (module, node.name, CLASSES[node.name])
        for module, node in definitions()
        if isinstance(node, ast.ClassDef) and node.name in CLASSES
    ]
    assert wrong == []


def test_functions_have_the_field_s_names() -> None:
    wrong = [
        (module, node.name, FUNCTIONS[node.name.lstrip("_")])
        for module, node in definitions()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.lstrip("_") in FUNCTIONS
    ]
    assert wrong == []


def test_no_two_classes_share_a_name() -> None:
    homes = defaultdict(list)
    for module, node in definitions():
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            homes[node.name].append(module)
    shared = {name: places for name, places in homes.items() if len(places) > 1}
    assert {name: shared[name] for name in shared if name not in SHARED_NAMES | TWO_FORMS} == {}
