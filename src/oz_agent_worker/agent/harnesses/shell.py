"""``shell``: the prompt is a script. It needs no model."""

from oz_agent_worker.agent.errors import AgentUsageError

from .base import Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]


def _prepare(run: HarnessInput) -> Invocation:
    """Run the prompt with the interpreter of its ``#!`` line, else with ``/bin/sh``.

    The script is a file that the interpreter gets as an argument, as the kernel does for a ``#!`` line
    (execve(2)). So it may have any length, does not occupy stdin, and runs where /tmp is mounted noexec.
    """
    script = run.scratch / "script"
    return Invocation(
        argv=(*_interpreter(run.prompt), str(script)),
        # Python buffers output to a pipe: the log would be empty until the script ends.
        environment={"PYTHONUNBUFFERED": "1"},
        files={script.name: encode(run.prompt if run.prompt.endswith("\n") else run.prompt + "\n")},
    )


def _interpreter(script: str) -> list[str]:
    if not script.startswith("#!"):
        return ["/bin/sh"]
    line = script[2:].partition("\n")[0].strip()
    if not line or "\0" in line:
        raise AgentUsageError(
            "the script's first line is '#!' without a program; write #!/bin/bash, for example"
        )
    # The kernel passes the rest of the line to the program as one argument.
    return line.split(None, 1)


HARNESS = Harness(
    name="shell",
    about="/bin/sh, or the program of its #! line: the prompt is a script",
    prepare=_prepare,
    install_hint="add /bin/sh, or the program of the script's '#!' line, to the task's image",
    natural_language=False,
    takes_mcp=False,
)
