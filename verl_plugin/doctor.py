"""`sv6d doctor`: can this installation run the demo, and if not, which command mends it."""

import subprocess
import sys

import click

from . import environment


@click.command("doctor")
@click.option("--mend", "action", flag_value="mend", help="Mend the CPU stack's gaps.")
@click.option("--undo", "action", flag_value="undo", help="Take the mends of the CPU stack back.")
def command(action):
    """Check the installation against the pins; mend the CPU stack."""
    if action:
        try:
            done = environment.mend() if action == "mend" else environment.undo()
        except subprocess.CalledProcessError as error:
            raise click.ClickException(f"{' '.join(error.cmd)} failed with exit status {error.returncode}") from error
        for line in done or ["nothing to do"]:
            click.echo(f"sv6d doctor --{action}: {line}")
        return
    sys.exit(0)
