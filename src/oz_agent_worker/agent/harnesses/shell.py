"""``shell``: the prompt is a script. It makes a task of anything, and needs no model."""

from oz_agent_worker.agent.errors import AgentUsageError

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]


def _prepare(run: HarnessInput) -> Invocation:
    """Run the prompt by its ``#!`` line, else by ``/bin/sh``.

    The script is a file, and its interpreter is called by name, as the kernel does it
    for a ``#!`` line (execve(2)): so it may be of any length, stdin is free, and a
    ``/tmp`` that is mounted noexec is no hindrance.
    """
    script = run.scratch / "script"
    return Invocation(
        argv=(*_interpreter(run.prompt), str(script)),
        # Python holds its output back when it writes to a pipe: nothing would be seen
        # before the end of the script.
        environment={"PYTHONUNBUFFERED": "1"},
        files={script.name: encode(run.prompt if run.prompt.endswith("\n") else run.prompt + "\n")},
    )


def _interpreter(script: str) -> list[str]:
    if not script.startswith("#!"):
        return ["/bin/sh"]
    line = script[2:].partition("\n")[0].strip()
    if not line or "\0" in line:
        raise AgentUsageError("the script's first line is '#!' without a program: #!/bin/bash, for example")
    # The kernel passes all that follows the program as one argument.
    return line.split(None, 1)


HARNESS = Harness(
    name="shell",
    about="the prompt is a script for /bin/sh, or for the program of its #! line",
    prepare=_prepare,
    install_hint="the task's image has no /bin/sh, or not the program of the script's '#!' line",
    natural_language=False,
    takes_mcp=False,
)
