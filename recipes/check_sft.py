"""What is known of a warm start before its processes start (section 5.1): settings, rows, held-out rows, memory of a GPU.

The looks at rows and memory are those of `sv6d check`, which is GRPO's; a warm start is shown to them under GRPO's names.
"""

from collections import Counter
from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from .checking import Check, Finding
from .checking import data as row_checks
from .checking.finding import NotKnown, error, warning
from .checking.inputs import enough_gpus
from .checking.memory import training
from .checking.subject import Subject
from .checking.table import run

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


def rows(config: DictConfig) -> Iterator[Finding]:
    """Every row, as training will meet it: few that are broken are skipped in it, many end the run here."""
    subject = Subject(config)
    yield from row_checks.rows(subject)
    try:
        found = subject.rows.rows
    except NotKnown:  # which the look before has told
        return
    yield from row_checks.media_files(subject)
    silent = [row for row in found if not row.get("messages") or row["messages"][-1]["role"] != "assistant"]
    if silent:
        about = silent[0].get("extra_info") or {}
        yield error(
            f"{len(silent)} of {len(found)} rows have nothing to learn, as row {about.get('index')} of {silent[0]['data_source']}: its "
            f"`messages` do not end with an assistant turn. Are these rows for RL? data.train_files={config.data.train_files}"
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
    subject, batch = Subject(config), config.data.train_batch_size
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
