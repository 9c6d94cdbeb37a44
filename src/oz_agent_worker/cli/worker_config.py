"""From the command line to a worker's configuration, with every error at once."""

from collections.abc import Mapping

from oz_agent_worker.errors import ConfigError
from oz_agent_worker.worker.backends.registry import BACKENDS
from oz_agent_worker.worker.config.load import WorkerConfig, WorkerFlags, read_file, resolve
from oz_agent_worker.worker.config.nodes import Problems
from oz_agent_worker.worker.config.schema import FileConfig

__all__ = ["load_worker_config"]


def load_worker_config(
    flags: WorkerFlags, environ: Mapping[str, str], *, needs_key: bool = True
) -> WorkerConfig:
    """Read the config file, join it with the flags and check the result.

    Raises:
        ConfigError: there are problems; the text has a line for each.
    """
    file, problems = (
        read_file(flags.config_file) if flags.config_file else (FileConfig(), Problems("command line"))
    )
    config = resolve(flags, file, problems, environ, needs_key=needs_key)
    for path, text in BACKENDS[config.backend_name].problems(config.backend):
        problems.found.append(f"{problems.line_of(path)}{text}")
    if problems.found:
        lines = "\n".join(f"  {problem}" for problem in problems.found)
        count = "one problem" if len(problems.found) == 1 else f"{len(problems.found)} problems"
        raise ConfigError(f"the configuration has {count}:\n{lines}")
    return config
