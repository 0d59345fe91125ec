"""`sv6d grpo --dry-run`: everything short of training. Checks in full, Ray and every node of it, the dataset, the first step's
prompts as the rollouts will get them; no weights are loaded, no GPU is used, nothing stays in the run's folder.
"""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .. import checking
from ..checking.cli import show as show_findings
from ..cluster import nodes
from ..compose import RecipeError


class Prompts(NamedTuple):
    """The prompts of one task in a step: how many, and the tokens of each where they can be known beforehand."""

    task: str
    count: int
    tokens: list[int]


def rehearse(recipe: str, config: DictConfig, console: Console) -> None:
    """Do all that a run does before its first rollout, and print what came of it.

    Raises:
        RecipeError: the run would fail; the message says at what, and what to change.
    """
    with console.status("checking") as status:
        found = list(
            checking.check(config, progress=lambda what, done, total: status.update(f"{what} ({done + 1} of {total})"))
        )
    show_findings(recipe, found, console)
    if any(finding.level == "error" for finding in found):
        raise RecipeError("the run would fail, as the table says; nothing was started")
    nodes.require(config, console)
    prompts = first_step(config, console)
    show(prompts, console)
    wanted = nodes.describe(nodes.pools(config))
    console.print(
        f"dry run: {config.trainer.total_training_steps} steps of {config.data.train_batch_size} prompts x "
        f"{config.actor_rollout_ref.rollout.n} rollouts would go to {wanted}. Nothing was trained.",
        highlight=False,
        soft_wrap=True,
    )


def first_step(config: DictConfig, console: Console) -> list[Prompts]:
    """Build the run's dataset, as its trainer does, and make the prompts of step 1."""
    from verl.trainer.ppo.utils import create_rl_dataset
    from verl.utils import hf_processor, hf_tokenizer
    from verl.utils.fs import copy_to_local

    from ...data_mixers.prompt_length import prompt_builder, prompt_tokens

    if "mixture" in config.data:
        config.data.mixture.skipped_rows = None  # a dry run leaves nothing behind
    model = copy_to_local(config.actor_rollout_ref.model.path)
    trust = config.actor_rollout_ref.model.trust_remote_code
    tokenizer, processor = hf_tokenizer(model, trust_remote_code=trust), hf_processor(model, trust_remote_code=trust)
    files = config.data.train_files
    dataset = create_rl_dataset(files, config.data, tokenizer, processor, max_samples=config.data.train_max_samples)
    builder = prompt_builder(tokenizer, processor, config.data)

    def measured() -> Iterator[tuple[str, int | None]]:
        for position in track(range(config.data.train_batch_size), "the prompts of step 1", console=console):
            item = dataset[position]
            yield item["data_source"], prompt_tokens(item["raw_prompt"], builder, dataset.image_patch_size)

    by_task: dict[str, list[int | None]] = {}
    for task, tokens in measured():
        by_task.setdefault(task, []).append(tokens)
    return [
        Prompts(task, len(found), [tokens for tokens in found if tokens is not None]) for task, found in by_task.items()
    ]


def show(prompts: list[Prompts], console: Console) -> None:
    """A line a task."""
    table = Table("task", "prompts", "tokens: median", "most", title="step 1", title_justify="left")
    for task, count, tokens in prompts:
        sizes = (f"{median(tokens):,.0f}", f"{max(tokens):,}") if tokens else ("not known", "")
        table.add_row(task, str(count), *sizes)
    console.print(table)
