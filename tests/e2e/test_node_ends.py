"""Containers beside the task, and images of another architecture, on a real node (field faults K10, K14)."""

import struct
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.node.images import BUSYBOX_IMAGE, File, Image, layer
from tests.cluster.node.registry import Registry
from tests.cluster.node_tier import NodeTier
from tests.cluster.rest import wait_for

from .ledger import Ledger
from .site import running_site
from .tasks import script_task
from .test_node_outcomes import check

pytestmark = pytest.mark.node

# An ordinary container, as a webhook injects it: it runs on until the task asks it to end, as 143.
MESH: Final = {
    "name": "mesh",
    "image": BUSYBOX_IMAGE,
    "command": ["/bin/sh", "-c", "while [ ! -e /workspace/.stop ]; do sleep 0.2; done; exit 143"],
    "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
}
TEMPLATE: Final[dict[str, Any]] = {"containers": [{"name": "task"}, MESH]}


def test_k10_the_end_of_the_task_is_its_containers(
    node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger
) -> None:
    with running_site(node_tier, namespace, tmp_path, pod_template=TEMPLATE) as site:
        peer = site.peer
        tasks = {
            "beside it a container runs on": peer.assign(script_task("echo done")),
            "it fails, and a container runs on": peer.assign(script_task("exit 3")),
            "beside it a container ends with 143": peer.assign(
                script_task("touch /workspace/.stop; sleep 2")
            ),
            "both fail": peer.assign(script_task("touch /workspace/.stop; sleep 2; exit 5")),
        }
        endings = {name: peer.ending(task) for name, task in tasks.items()}
        for name, ending in endings.items():
            ledger.report(name, ending, peer.seconds(tasks[name]))
        check(endings["beside it a container runs on"], None)
        assert peer.output(tasks["beside it a container runs on"]) == "done\n"
        check(endings["it fails, and a container runs on"], "container_exit", 3, "`task`")
        check(endings["beside it a container ends with 143"], None)
        check(endings["both fail"], "container_exit", 5, "`task`")
        # What ran on is ended with its Job; the Job of "both fail" failed by itself, and stays for its TTL.
        wait_for("the end of the containers beside them", lambda: len(site.items("pods")) == 1)
        (job,) = site.jobs()
        assert tasks["both fail"] in job


#: The header of a program for z/Architecture, which no node of the tests has (ELF, e_machine EM_S390).
ELSEWHERE: Final = File(
    b"\x7fELF\x02\x02\x01"
    + bytes(9)
    + struct.pack(">HHIQQQIHHHHHH", 2, 22, 1, 0, 64, 0, 0, 64, 56, 0, 64, 0, 0),
    0o755,
)


def test_k14_an_image_of_another_architecture(
    node_tier: NodeTier, namespace: str, tmp_path: Path, ledger: Ledger
) -> None:
    image = Image("elsewhere:1", [layer({"bin/sh": ELSEWHERE})])
    with Registry([image]) as registry, running_site(node_tier, namespace, tmp_path) as site:
        name, peer = registry.reference("elsewhere:1"), site.peer
        tasks = {
            "container_exit": peer.assign(script_task("exit 0", image=name)),
            "sidecar_prep": peer.assign(script_task("exit 0", agent=name)),
        }
        for reason, task in tasks.items():
            ending = peer.ending(task)
            ledger.report(f"another architecture: {reason}", ending, peer.seconds(task))
            # runc starts the container, and its last words are in the log.
            check(ending, reason, 1, "another CPU architecture than the node's")
            assert "`cp`" not in getattr(ending, "message", "")
            assert "exec format error" in peer.output(task)
