"""`sv6d doctor`: can this installation run the demo, and if not, which command mends it."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.table import Table

from .. import mends
from . import environment
from .pins import Pin, pins

PROBE_SECONDS = 240
GOOD, BAD = "[green]✓[/green]", "[red]✗[/red]"


def stack() -> str:
    """The extra whose pins count, `cpu` or `gpu`: by the installed torch; without one, by what the machine has."""
    try:
        version("torch")
    except PackageNotFoundError:
        return "gpu" if shutil.which("nvidia-smi") else "cpu"
    return "cpu" if environment.cpu_torch() else "gpu"


def run_probe(name: str) -> dict:
    """Ask `probes` in a fresh process; a process that dies is an answer too."""
    command = [sys.executable, "-m", "sv6d.verl_plugin.doctor.probes", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return {"loaded": False, "problems": [f"no answer within {PROBE_SECONDS} s"]}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"loaded": False, "problems": [last]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def show_versions(console: Console, found: list[Pin]) -> list[str]:
    """Print the table of versions; returns the problems."""
    table = Table("package", "wanted", "installed", "for", "", title="versions against pins", title_justify="left")
    for pin in found:
        table.add_row(pin.name, pin.wanted, pin.installed or "-", pin.extra, GOOD if pin.satisfied else BAD)
    console.print(table)
    return [
        f"{pin.name} {pin.wanted} is wanted, {pin.installed or 'nothing'} is installed"
        for pin in found
        if not pin.satisfied
    ]


def show_gaps(console: Console, gaps: list[environment.Gap]) -> list[str]:
    """Print the CPU stack's gaps; returns those that are open."""
    table = Table("package", "what", "state", title="gaps of the CPU stack", title_justify="left")
    for gap in gaps:
        table.add_row(gap.name, gap.what, f"{BAD} open" if gap.open else f"{GOOD} mended")
    if gaps:
        console.print(table)
    return [f"{gap.name}: {gap.what}" for gap in gaps if gap.open]


def show_mends(console: Console, states: dict[str, str]) -> None:
    table = Table("mend", "what", "in", "state", title="mends of verl and vLLM", title_justify="left")
    for mend in mends.MENDS:
        state = states.get(mend.name, "not asked")
        sign = BAD if state.startswith(("failed", "not loaded")) else GOOD if state == "applied" else "-"
        table.add_row(mend.name, mend.what, mend.where, f"{sign} {state}")
    console.print(table)


def show_probes(console: Console, answers: dict[str, dict]) -> list[str]:
    """Print where the plug-in loaded; returns the problems."""
    table = Table("process", "plug-in", "what it found", title="the plug-in", title_justify="left")
    problems = []
    for name, answer in answers.items():
        facts = [f"platform {answer['platform']}"] if "platform" in answer else []
        facts += [f"{what}: {found}" for what, found in answer.get("registered", {}).items()]
        facts += [f"[red]{problem}[/red]" for problem in answer["problems"]]
        good = answer["loaded"] and not answer["problems"]
        table.add_row(name, f"{GOOD} loaded" if good else BAD, "\n".join(facts))
        problems += [f"{name}: {problem}" for problem in answer["problems"]]
    console.print(table)
    return problems


def examine(console: Console, quick: bool) -> list[tuple[str, str]]:
    """Print everything; returns (problem, command that mends it) pairs."""
    kind = stack()
    reinstall = f"{sys.executable} -m pip install 'sv6d[{kind},demo,reports]'   (in a checkout: make setup)"
    problems = [(text, reinstall) for text in show_versions(console, pins((kind, "demo", "reports")))]
    gaps = [(text, "sv6d doctor --mend") for text in show_gaps(console, environment.gaps())]
    problems += gaps
    if any("nothing is installed" in text and text.startswith("verl ") for text, _ in problems):
        return problems
    answers = {}
    for name in ("verl",) if quick else ("verl", "ray", "vllm"):
        with console.status(f"asking a fresh {name} process"):
            answers[name] = run_probe(name)
    show_mends(console, {**answers["verl"].get("mends", {}), **answers.get("vllm", {}).get("mends", {})})
    mending = "sv6d doctor --mend" if gaps else reinstall
    return problems + [(text, mending) for text in show_probes(console, answers)]


@click.command("doctor", short_help="Check the installation; say what is missing and how to mend it.")
@click.option("--mend", "action", flag_value="mend", help="Mend the CPU stack's gaps, and say what was done.")
@click.option("--undo", "action", flag_value="undo", help="Take back what --mend did.")
@click.option("--quick", is_flag=True, help="Leave out the Ray and vLLM processes (about half a minute).")
def command(action, quick):
    """Check the installation: versions against pins, mends, whether the plug-in loads in verl, Ray and vLLM.

    Exit status 0 only if the demo can run.
    """
    if action:
        change(action)
        return
    console = Console(width=max(shutil.get_terminal_size((120, 24)).columns, 100))
    problems = examine(console, quick)
    if not problems:
        console.print(f"{GOOD} the demo can run here" + (" (Ray and vLLM not asked: --quick)" if quick else ""))
        return
    console.print(f"{BAD} the demo cannot run here:")
    for text, _ in problems:
        console.print(f"  - {text}", markup=False)
    for mending in dict.fromkeys(command for _, command in problems):
        console.print(f"  mend with: {mending}", markup=False)
    sys.exit(1)


def change(action: str) -> None:
    """Mend or undo, and say each thing that was done."""
    try:
        done = environment.mend() if action == "mend" else environment.undo()
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"{' '.join(error.cmd)} failed with exit status {error.returncode}") from error
    for line in done or ["nothing to do"]:
        click.echo(f"sv6d doctor --{action}: {line}")
