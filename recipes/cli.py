"""The `sv6d` command. It only gathers: each sub-command is written where its work is done, and is imported when it is called."""

from importlib import import_module

import click

COMMANDS = {
    "doctor": (
        "sv6d.verl_plugin.doctor.cli",
        "Check the installation against the pins; say what is missing and how to mend it.",
    ),
    "annotate": (
        "sv6d.sft.annotation.cli",
        "Raw videos -> structural documents, labels pre-filled by a model (3.1.2).",
    ),
    "data": ("sv6d.recipes.data", "Make and look at training rows."),
    "mix": ("sv6d.data_mixers.cli", "Show the interleaving of tasks that given weights produce."),
    "score": ("sv6d.rewards.rescoring.cli", "Score answers against ground truth with the Table 4 rewards."),
    "schema": ("sv6d.schema.cli", "Print the JSON schema or pattern of a task's answers, for guided decoding."),
    "fit-weights": ("sv6d.rewards.fit_weights_cli", "Learn the weights w_k of eq. 9 from scores or preferences."),
    "sft": ("sv6d.recipes.running.sft", "Supervised warm start (report, section 5.1)."),
    "average": ("sv6d.sft.average_cli", "Average the last checkpoints of a run into one (SWA, section 5.1.2)."),
    "grpo": ("sv6d.recipes.running.grpo", "Train with GRPO and asynchronous rollouts (section 5.2)."),
    "check": ("sv6d.recipes.checking.cli", "Check a GRPO recipe before a GPU is paid for."),
    "launch": ("sv6d.recipes.launching.cli", "Start a GRPO recipe on Slurm, a Ray cluster or Kubernetes."),
    "report": ("sv6d.reports.cli", "Draw a run's entropy, reward and length, by task and component (Figure 3)."),
    "compare": ("sv6d.reports.compare_cli", "Which of two runs earns more, by task, with intervals and a verdict."),
    "demo": ("sv6d.recipes.demo.story", "The whole job on a CPU: footage, SFT, averaging, GRPO, report."),
}


class LazyGroup(click.Group):
    """Imports a sub-command's module only when it is asked for, so that `sv6d --help` needs no torch."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        try:
            return import_module(COMMANDS[name][0]).command
        except ModuleNotFoundError as missing:
            if (missing.name or "").startswith("sv6d"):
                raise  # a fault of ours, which no extra mends
            raise click.ClickException(
                f"sv6d {name} needs {missing.name}, which is not installed here. Install the extra that has it: "
                "pip install 'sv6d[reports]' for report, 'sv6d[annotate]' for annotate; 'sv6d[cpu]' or, on a GPU machine, 'sv6d[gpu]' "
                "for sft, average, grpo, check, launch; 'sv6d[cpu,demo,reports]' for demo and data demo."
            ) from missing

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sv6d")
def main():
    """sv6d: structural video understanding with verifiable rewards, on verl."""
