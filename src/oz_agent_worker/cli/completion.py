"""``completion``: scripts that let a shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_HELP = """Print a completion script for SHELL.

\b
  bash:  source <(oz-agent-worker completion bash)
  zsh:   source <(oz-agent-worker completion zsh)
  fish:  oz-agent-worker completion fish | source
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "oz-agent-worker", "_OZ_AGENT_WORKER_COMPLETE")
    click.echo(script.source())
