"""From the command line to a worker's configuration, with every error at once."""

from collections.abc import Iterator, Mapping

from oz_agent_worker.errors import ConfigError
from oz_agent_worker.worker.config.load import WorkerConfig, WorkerFlags, read_file, resolve
from oz_agent_worker.worker.config.nodes import Problems
from oz_agent_worker.worker.config.schema import FileConfig, KubernetesConfig

__all__ = ["load_worker_config"]


def load_worker_config(
    flags: WorkerFlags, environ: Mapping[str, str], *, needs_key: bool = True
) -> WorkerConfig:
    """Read the config file, join it with the flags and check the whole.

    Raises:
        ConfigError: something is wrong; the text has a line for each problem.
    """
    file, problems = (
        read_file(flags.config_file) if flags.config_file else (FileConfig(), Problems("command line"))
    )
    config = resolve(flags, file, problems, environ, needs_key=needs_key)
    if isinstance(config.backend, KubernetesConfig):
        problems.found.extend(_template_problems(config.backend))
    if problems.found:
        lines = "\n".join(f"  {problem}" for problem in problems.found)
        count = "one problem" if len(problems.found) == 1 else f"{len(problems.found)} problems"
        raise ConfigError(f"the configuration has {count}:\n{lines}")
    return config


def _template_problems(config: KubernetesConfig) -> Iterator[str]:
    """What only the Kubernetes backend knows to be wrong. Imported late: other backends need none of it."""
    from oz_agent_worker.worker.backends.kubernetes.manifest.pod_template import (
        shorthand_conflicts,
        template_problems,
    )

    for path, what in template_problems(config.pod_template):
        yield f"backend.kubernetes.{path}: {what}"
    for shorthand, field in shorthand_conflicts(config):
        yield (
            f"backend.kubernetes.{shorthand} and backend.kubernetes.pod_template.{field} "
            "are both set, to different values: keep one of them"
        )
