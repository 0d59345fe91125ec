"""What is known of a warm start before its processes start (section 5.1): settings, rows, held-out rows, memory of a GPU.

The looks at rows and memory are those of `sv6d check`, which is GRPO's; a warm start is shown to them under GRPO's names.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...data_mixers.sources import Inspection
from ...sft.rows import count_rows
from ..checking import Check, Finding
from ..checking import data as row_checks
from ..checking.finding import NotKnown, error, warning
from ..checking.inputs import enough_gpus
from ..checking.memory import training
from ..checking.subject import Subject
from ..checking.table import run

Progress = Callable[[str, int, int], None]

NAMES = {
    "actor_rollout_ref.model.": "model.",
    "actor.fsdp_config.": "engine.",
    "actor.ppo_max_token_len_per_gpu": "data.max_token_len_per_gpu",
    "actor.strategy": "engine.strategy",
}
"""GRPO's names of settings, and those of the warm start."""


def settings(config: DictConfig) -> Iterator[Finding]:
    """What holds on whatever machine: the batch divides over the ranks, and checkpoints are models."""
    model = config.model
    if model.get("lora_rank", 0) or model.get("lora_adapter_path"):
        yield error(
            f"model.lora_rank={model.get('lora_rank', 0)}, model.lora_adapter_path={model.get('lora_adapter_path')}: verl's whole model "
            f"then has PEFT's names, and what loads it begins with random weights. The warm start trains all weights: set "
            f"model.lora_rank=0 and model.lora_adapter_path=null; adapters are GRPO's (leum_8b_lora)"
        )
    ranks, batch = data_parallel(config), config.data.train_batch_size
    if batch % ranks:
        yield error(
            f"data.train_batch_size={batch} does not divide over {ranks} ranks ({_ranks_of(config)}); "
            f"take {batch - batch % ranks or ranks} or {batch - batch % ranks + ranks}"
        )
        return
    share, micro = batch // ranks, config.data.micro_batch_size_per_gpu
    if not config.data.use_dynamic_bsz and share % micro:
        yield error(
            f"data.micro_batch_size_per_gpu={micro} does not divide a rank's share of the batch, {share} rows; "
            f"set it to a divisor of {share}, or data.use_dynamic_bsz=true with data.max_token_len_per_gpu"
        )


def data_parallel(config: DictConfig) -> int:
    """Ranks that have rows of their own: those that share a sequence have the same."""
    parallel = config.engine.get("ulysses_sequence_parallel_size", 1)
    return max(config.trainer.nnodes * config.trainer.n_gpus_per_node // parallel, 1)


def _ranks_of(config: DictConfig) -> str:
    parallel = config.engine.get("ulysses_sequence_parallel_size", 1)
    shared = " / engine.ulysses_sequence_parallel_size" if parallel > 1 else ""
    return f"trainer.nnodes x trainer.n_gpus_per_node{shared}"


def machine(config: DictConfig) -> Iterator[Finding]:
    """The GPUs, where the run is one of this machine alone; those of several nodes are seen there."""
    if config.trainer.nnodes == 1:
        yield from enough_gpus(config)


class RowsInShort(Subject):
    """Keeps of each row only what a finding says of it, a file at a time: whole, 2.5 M small rows would take 16 GB."""

    def _inspect(self, files: list[str]) -> Inspection:
        whole, kept = Inspection([], {}, {}, {}), {}
        full = [file for file in files if count_rows(file)] or files[:1]  # none at all is told of the first
        for number, file in enumerate(full):
            self.progress("rows", number, len(full))
            found, start = super()._inspect([file]), len(whole.rows)
            for reasons, more in zip(whole[1:], found[1:], strict=True):
                reasons.update({start + index: reason for index, reason in more.items()})
            for row in found.rows:
                short = (row["data_source"], _teaches(row))
                whole.rows.append(kept.setdefault(short, {"data_source": short[0], "teaches": short[1]}))
        return whole


def _teaches(row: Mapping[str, Any]) -> bool:
    messages = row.get("messages")
    return bool(messages) and messages[-1]["role"] == "assistant"


def rows(config: DictConfig, progress: Progress = lambda what, done, total: None) -> Iterator[Finding]:
    """Every row, as training will meet it: few that are broken are skipped in it, many end the run here.

    Args:
        progress: told (what, done, of how many).
    """
    subject = RowsInShort(config, progress=progress)
    yield from row_checks.rows(subject)
    try:
        found = subject.rows.rows
    except NotKnown:  # which the look before has told
        return
    yield from row_checks.media_files(subject)
    silent = [index for index, row in enumerate(found) if not row["teaches"]]
    if silent:
        yield error(
            f"{len(silent)} of {len(found)} rows have nothing to learn, the first is row {silent[0]}, of "
            f"{found[silent[0]]['data_source']}: its `messages` do not end with an assistant turn. Are these rows for RL? "
            f"data.train_files={config.data.train_files}"
        )


def held_out(config: DictConfig) -> Iterator[Finding]:
    """The rows that the run is validated on: verl takes whole batches of them and leaves a remainder out without a word."""
    if not config.data.val_files:
        if config.trainer.test_freq != -1:
            yield error(
                f"trainer.test_freq={config.trainer.test_freq} and there is nothing to validate on: set data.val_files to held-out SFT "
                f"rows, or trainer.test_freq=-1"
            )
        return
    subject, batch = RowsInShort(config), config.data.train_batch_size
    yield from row_checks.held_out(subject)
    try:
        count = _kept(Counter(row["data_source"] for row in subject.held_out.rows), config.data.val_max_samples)
    except NotKnown as missing:
        yield error(str(missing))
        return
    if count < batch:
        yield error(
            f"data.val_files has {count} rows and a batch takes {batch} (data.train_batch_size): verl validates on whole batches, here on "
            f"none. Give it {batch} rows, or set data.val_files=null"
        )
    elif count % batch:
        yield warning(
            f"of {count} held-out rows the last {count % batch} are left out: verl validates on whole batches of {batch} "
            f"(data.train_batch_size)"
        )


def _kept(sizes: Counter[str], samples: int) -> int:
    """Rows that `sft.rows.spread` keeps."""
    if samples <= 0:
        return sizes.total()
    share = max(1, samples // len(sizes))
    return sum(min(share, size) for size in sizes.values())


def memory(config: DictConfig) -> Iterator[Finding]:
    """An update against the GPU, as `sv6d check` estimates it for GRPO: a warm start is the same update without entropy."""
    for finding in run(Check("training memory", training), Subject(as_update(config))):
        text = finding.text
        for theirs, ours in NAMES.items():
            text = text.replace(theirs, ours)
        yield finding._replace(text=text)


def as_update(config: DictConfig) -> DictConfig:
    """A warm start's settings where a GRPO recipe has those of its update."""
    told = OmegaConf.to_container(config, resolve=True)
    data = told["data"]
    actor = {
        "strategy": told["engine"]["strategy"],
        "fsdp_config": told["engine"],
        "use_dynamic_bsz": data["use_dynamic_bsz"],
        "ppo_max_token_len_per_gpu": data["max_token_len_per_gpu"],
        "ppo_micro_batch_size_per_gpu": data["micro_batch_size_per_gpu"],
        "calculate_entropy": False,
        "entropy_coeff": 0,
    }
    return OmegaConf.create(
        {
            "sv6d": told["sv6d"],
            "trainer": told["trainer"],
            "data": {"max_prompt_length": data["max_length"], "max_response_length": 0},
            "actor_rollout_ref": {"actor": actor, "model": told["model"]},
        }
    )
