"""``command``: the operator's own program, from the template in ``OZ_AGENT_COMMAND``."""

import re
import shlex
from typing import Final

from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.json_input import loads
from oz_agent_worker.contract import MAX_ARGUMENT_BYTES

from .base import PROMPT_FILE, Harness, HarnessInput, Invocation, encode

__all__ = ["HARNESS"]

_PLACEHOLDER: Final = re.compile(r"\{(prompt|prompt_file|run_id|model|title)\}")


def _prepare(run: HarnessInput) -> Invocation:
    """Replace ``{prompt}``, ``{prompt_file}``, ``{run_id}``, ``{model}`` and ``{title}`` in the template.

    A word of the template stays one argument whatever replaces its placeholders, and replacements are not
    searched for placeholders. Other braces stay as they are. Without ``{prompt}`` and ``{prompt_file}`` the
    prompt is the program's stdin.
    """
    words = _words(run.template)
    used = {name for word in words for name in _PLACEHOLDER.findall(word)}
    values = {
        "prompt": run.prompt,
        "prompt_file": str(run.scratch / PROMPT_FILE),
        "run_id": run.run_id,
        "model": run.model,
        "title": run.title,
    }
    argv = tuple(_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in words)
    if any(len(encode(argument)) >= MAX_ARGUMENT_BYTES or "\0" in argument for argument in argv):
        raise AgentUsageError(
            f"the prompt of {len(encode(run.prompt))} bytes does not fit into one argument"
            f" ({MAX_ARGUMENT_BYTES // 1024} KiB, no zero bytes): use"
            " {prompt_file} in OZ_AGENT_COMMAND, or no placeholder and read stdin"
        )
    return Invocation(
        argv=argv,
        stdin=b"" if used & {"prompt", "prompt_file"} else encode(run.prompt),
        files={PROMPT_FILE: encode(run.prompt)} if "prompt_file" in used else {},
    )


def _words(template: str) -> list[str]:
    """Split the template: a JSON array of strings, or words quoted as in a shell."""
    if not template:
        raise AgentUsageError(
            "the harness 'command' needs OZ_AGENT_COMMAND, for example: my-agent --file {prompt_file}"
        )
    try:
        words = loads(template) if template.startswith("[") else shlex.split(template)
    except ValueError as error:
        raise AgentUsageError(f"OZ_AGENT_COMMAND cannot be read: {error}") from error
    if not words or not all(isinstance(word, str) for word in words) or not words[0]:
        raise AgentUsageError(
            'OZ_AGENT_COMMAND must be a program with arguments: ["my-agent", "{prompt_file}"]'
        )
    return list(words)


HARNESS = Harness(
    name="command",
    about="the program in OZ_AGENT_COMMAND",
    prepare=_prepare,
    install_hint="correct OZ_AGENT_COMMAND, or add the program to the task's image",
    takes_mcp=False,
)
