"""``oz-agent-worker`` without a command: the worker's process."""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from oz_agent_worker.errors import ExitCode
from oz_agent_worker.worker.app import WorkerOptions, run_worker
from oz_agent_worker.worker.config.load import WorkerFlags
from oz_agent_worker.worker.log_fields import LogFields
from oz_agent_worker.worker.probes.server import Endpoint

from .log_setup import LogFormat, configure_logging
from .worker_config import load_worker_config

__all__ = ["prepare_process", "run_until_signalled", "serve_worker", "worker_options_from"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


def worker_options_from(
    health_port: int, health_host: str, exit_on_auth_failure: bool, shutdown_grace: float
) -> WorkerOptions:
    """The worker's options from the flags of the process; ``health_port`` 0 serves no probes."""
    return WorkerOptions(
        exit_on_auth_failure=exit_on_auth_failure,
        shutdown_grace=shutdown_grace,
        probes=Endpoint(health_host, health_port) if health_port else None,
    )


def serve_worker(flags: WorkerFlags, options: WorkerOptions, log_level: str, log_format: LogFormat) -> None:
    """Run the worker until SIGTERM or SIGINT."""
    fields = LogFields()
    configure_logging(log_level, log_format, fields)
    config = load_worker_config(flags, os.environ)
    prepare_process()
    options = replace(options, listeners=(fields,))
    stop = asyncio.Event()
    asyncio.run(run_until_signalled(run_worker(config, options, stop=stop, environ=os.environ), stop))


def prepare_process() -> None:
    """Prepare the process for hundreds of tasks: its limit of open files, and how it waits for children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        # The default of Python 3.11 is a thread per child; later versions use pidfd themselves.
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())


async def run_until_signalled(program: Coroutine[Any, Any, T], stop: asyncio.Event) -> T:
    """Run a program that ends when ``stop`` is set; SIGTERM and SIGINT set it.

    A second signal ends the process at once.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            logger.warning("Second %s: exiting at once", number.name)
            os._exit(ExitCode.FAILURE)
        logger.info("%s: shutting down (send it again to exit at once)", number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await program
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
