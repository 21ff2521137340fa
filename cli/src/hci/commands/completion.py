"""``hci completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from hci import output
from hci.errors import UsageProblem


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a SHELL complete hci, for example: eval "$(hci completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageProblem(f"There is no completion for {shell}.")
    output.write(kind(context.find_root().command, {}, "hci", "_HCI_COMPLETE").source() + "\n")
