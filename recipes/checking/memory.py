"""Does it fit? Memory of one GPU while it trains and while vLLM writes, from the model's sizes and the recipe (docs/check.md).

Estimates, with their assumptions in the text: flash attention, bf16 compute, FSDP gathering one decoder layer ahead, and a
reserve for what CUDA, NCCL and the allocator's fragments take. Good to some 15 %; they are meant to catch factors.
"""

from collections.abc import Iterator
from typing import NamedTuple

from omegaconf import DictConfig

from ..cluster.pools import is_separate
from .batch import sequence_parallel
from .finding import Finding, NotKnown, error, note, warning
from .model_size import ModelSize
from .subject import Subject

GB = 1e9
ASSUMED_GPU = 80
"""GB of a GPU where `sv6d.gpu_gb` does not say."""
RESERVE = 3 * GB
"""CUDA's context, NCCL's buffers, fragments of the allocator."""
TIGHT = 0.9
"""Above this share of the GPU an estimate is a warning."""
BYTES = {"fp32": 4, "float32": 4, "float": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2, "half": 2}


class Memory(NamedTuple):
    """Bytes of one GPU while it updates the policy.

    Attributes:
        states: its shards of parameters, gradients and Adam's two moments.
        gathered: parameters that FSDP has whole at one time, and the gradients of a layer before they are scattered.
        activations: of the decoder; what checkpointing keeps, and one layer recomputed.
        vision: of the vision tower, its pixels included.
        logits: scores over the vocabulary and what is made of them.
    """

    states: float
    gathered: float
    activations: float
    vision: float
    logits: float

    @property
    def total(self) -> float:
        return sum(self) + RESERVE


class Rollout(NamedTuple):
    """Bytes of one GPU that vLLM holds.

    Attributes:
        budget: `gpu_memory_utilization` of the GPU.
        weights: its share of the model.
        work: what a pass of `max_num_batched_tokens` tokens and one longest video take.
        token: what one token leaves in the KV cache.
    """

    budget: float
    weights: float
    work: float
    token: float

    @property
    def cache_tokens(self) -> int:
        """Tokens that the KV cache of a replica has room for; negative where the rest fills the budget."""
        return int((self.budget - self.weights - self.work) / self.token)


def training_memory(config: DictConfig, model: ModelSize) -> Memory:
    """The peak of an update on one GPU, in bytes.

    Offloaded parameters and optimizer count: verl 0.9.1 brings both back for the whole update (`EngineTrainModeCtx`).
    """
    actor, world = config.actor_rollout_ref.actor, config.trainer.nnodes * config.trainer.n_gpus_per_node
    fsdp = actor.fsdp_config
    shards = world if fsdp.fsdp_size in (-1, 0) or fsdp.fsdp_size > world else fsdp.fsdp_size
    size = BYTES[str(fsdp.get("model_dtype") or "fp32")]
    compute = BYTES[str((fsdp.get("mixed_precision") or {}).get("param_dtype", "bf16"))]
    trained, parallel = trained_parameters(config, model), sequence_parallel(config)
    states = 0.0 if fsdp.offload_policy else (model.parameters + 3 * trained) * size / shards
    scattered = 1 if trained == model.parameters else trained / model.parameters
    gathered = compute * (2 * model.layer + model.heads_and_embeddings) + 4 * scattered * model.layer
    tokens = tokens_at_once(config)
    return Memory(
        states,
        gathered if shards > 1 else 0.0,
        _decoder_activations(config, model, tokens, compute),
        _vision_activations(config, model, tokens * parallel, compute),
        _logits(config, model, tokens, compute),
    )


def trained_parameters(config: DictConfig, model: ModelSize) -> int:
    """All, or those of LoRA's adapters."""
    rank = lora_rank(config)
    return model.lora(rank) if rank else model.parameters


def lora_rank(config: DictConfig) -> int:
    settings = config.actor_rollout_ref.model
    return (settings.get("lora") or {}).get("rank", 0) or settings.get("lora_rank", 0)


def tokens_at_once(config: DictConfig) -> int:
    """Tokens of a micro-batch that one GPU has at a time in the decoder."""
    actor = config.actor_rollout_ref.actor
    if actor.use_dynamic_bsz:
        return actor.ppo_max_token_len_per_gpu
    longest = config.data.max_prompt_length + config.data.max_response_length
    return (actor.ppo_micro_batch_size_per_gpu or 1) * longest // sequence_parallel(config)


def _decoder_activations(config: DictConfig, model: ModelSize, tokens: int, size: int) -> float:
    """What autograd saves for a layer is counted in transformers' Qwen3-VL (a test does): 13, 3 and 4 numbers of each width a token."""
    one = tokens * size * (13 * model.hidden + 3 * model.key_values + 4 * model.intermediate)
    if config.actor_rollout_ref.model.enable_gradient_checkpointing:
        return tokens * size * model.hidden * model.layers + one
    return one * model.layers


def _vision_activations(config: DictConfig, model: ModelSize, tokens: int, size: int) -> float:
    """As if every token were a video's: the tower is not split over sequence-parallel GPUs."""
    patches = tokens * model.patches
    one = patches * size * (12 * model.vision_hidden + 2 * model.vision_intermediate)
    kept = patches * size * model.vision_hidden * model.vision_layers
    pixels = patches * model.patch_values * 4 if model.vision_layers else 0
    if config.actor_rollout_ref.model.enable_gradient_checkpointing:
        return kept + pixels  # the block that is recomputed is smaller than the decoder layer that is, at another time
    return one * model.vision_layers + pixels


def _logits(config: DictConfig, model: ModelSize, tokens: int, size: int) -> float:
    """Logits and their gradient, and for the entropy the probabilities and their product; fused kernels keep a chunk of 512."""
    actor = config.actor_rollout_ref.actor
    if config.actor_rollout_ref.model.use_fused_kernels:
        return 512 * model.vocabulary * 4 * 3
    entropy = (actor.calculate_entropy or actor.entropy_coeff) and not actor.fsdp_config.entropy_checkpointing
    return tokens * model.vocabulary * size * (4 if entropy else 2)


def rollout_memory(config: DictConfig, model: ModelSize, gpu: float) -> Rollout:
    """What vLLM makes of one GPU."""
    rollout = config.actor_rollout_ref.rollout
    parallel, size = rollout.tensor_model_parallel_size, BYTES[str(rollout.dtype)]
    tokens = rollout.max_num_batched_tokens
    decoder = tokens * size * (4 * model.hidden + 3 * model.intermediate / parallel)
    patches = min(tokens, config.data.max_prompt_length) * model.patches
    vision = patches * size * (6 * model.vision_hidden + 2 * model.vision_intermediate)
    scores = rollout.max_num_seqs * model.vocabulary * 4
    return Rollout(
        rollout.gpu_memory_utilization * gpu,
        model.parameters * size / parallel,
        decoder + vision + scores + GB,
        model.layers * model.key_values * size / parallel,
    )


def training(subject: Subject) -> Iterator[Finding]:
    """Weights, gradients, optimizer and activations of an update against the GPU."""
    config, gpu = subject.config, _gpu(subject.config)
    if config.trainer.device != "cuda":
        return
    require_fsdp(config)
    memory, tokens = training_memory(config, subject.model), tokens_at_once(config)
    text = (
        f"an update takes about {memory.total / GB:.0f} GB of a {gpu.text}: "
        f"{memory.states / GB:.1f} states, {memory.gathered / GB:.1f} gathered layers, "
        f"{memory.activations / GB:.1f} decoder and {memory.vision / GB:.1f} vision activations at {tokens:,} tokens, "
        f"{memory.logits / GB:.1f} logits, {RESERVE / GB:.0f} in reserve"
    )
    if host := offloaded(config, subject.model):
        text += f"; {host / GB:.0f} GB of each node's own memory hold what is offloaded meanwhile"
    if memory.total > TIGHT * gpu.bytes:
        yield (error if memory.total > gpu.bytes else warning)(f"{text}. {_less(config, memory)}")
    else:
        yield note(text)


def offloaded(config: DictConfig, model: ModelSize) -> float:
    """Bytes of a node's memory that take up parameters and optimizer while vLLM has the GPUs."""
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    size = BYTES[str(fsdp.get("model_dtype") or "fp32")]
    parameters = model.parameters if fsdp.param_offload or fsdp.offload_policy else 0
    optimizer = 2 * trained_parameters(config, model) if fsdp.optimizer_offload or fsdp.offload_policy else 0
    return (parameters + optimizer) * size / config.trainer.nnodes


def rollouts(subject: Subject) -> Iterator[Finding]:
    """vLLM's share of the GPU: beside what the trainer leaves there, and large enough for its longest sequences."""
    config, gpu = subject.config, _gpu(subject.config)
    if config.trainer.device != "cuda":
        return
    require_fsdp(config)
    memory, rollout = rollout_memory(config, subject.model, gpu.bytes), config.actor_rollout_ref.rollout
    longest = rollout.max_model_len or config.data.max_prompt_length + config.data.max_response_length
    left = 0.0 if is_separate(config) else _left_by_the_trainer(config, subject.model)
    if memory.budget + left + RESERVE > gpu.bytes:
        yield error(
            f"vLLM takes {memory.budget / GB:.0f} GB (gpu_memory_utilization={rollout.gpu_memory_utilization}) of a {gpu.text} "
            f"beside {left / GB:.0f} GB that the trainer leaves there and {RESERVE / GB:.0f} in reserve. Set "
            f"actor_rollout_ref.rollout.gpu_memory_utilization to at most {(gpu.bytes - left - RESERVE) / gpu.bytes:.2f}, or "
            f"actor.fsdp_config.param_offload and optimizer_offload to true"
        )
        return
    tokens = memory.cache_tokens
    text = (
        f"vLLM's {memory.budget / GB:.0f} GB hold {memory.weights / GB:.1f} GB of weights, about {memory.work / GB:.1f} GB of work "
        f"and a KV cache of about {max(tokens, 0):,} tokens: {max(tokens, 0) / longest:.1f} sequences of the longest kind "
        f"({longest:,} tokens) at a time"
    )
    if tokens < longest:
        yield error(
            f"{text}, and vLLM does not start with less than one. Raise gpu_memory_utilization or tensor_model_parallel_size, or "
            f"lower max_model_len or max_num_batched_tokens (actor_rollout_ref.rollout)"
        )
    else:
        yield note(text)


def require_fsdp(config: DictConfig) -> None:
    """Raises NotKnown for an engine whose shards are not FSDP's."""
    strategy = config.actor_rollout_ref.actor.strategy
    if not str(strategy).startswith("fsdp"):
        raise NotKnown(f"memory and checkpoints are estimated for FSDP, and actor.strategy={strategy}")


class _Gpu(NamedTuple):
    bytes: float
    text: str


def _gpu(config: DictConfig) -> _Gpu:
    stated = config.get("sv6d", {}).get("gpu_gb")
    size = stated or ASSUMED_GPU
    return _Gpu(size * GB, f"GPU of {size:g} GB" + ("" if stated else " (assumed: sv6d.gpu_gb is not set)"))


def _left_by_the_trainer(config: DictConfig, model: ModelSize) -> float:
    fsdp = config.actor_rollout_ref.actor.fsdp_config
    world = config.trainer.nnodes * config.trainer.n_gpus_per_node
    size = BYTES[str(fsdp.get("model_dtype") or "fp32")]
    parameters = 0 if fsdp.param_offload else model.parameters
    optimizer = 0 if fsdp.optimizer_offload else 2 * trained_parameters(config, model)
    return (parameters + optimizer) * size / world


def _less(config: DictConfig, memory: Memory) -> str:
    """What to change first: the largest part."""
    mends = {
        "states": "Take more GPUs, LoRA (actor_rollout_ref.model.lora_rank), or actor.fsdp_config.offload_policy=true",
        "gathered": "Take LoRA, or a smaller model",
        "activations": "Lower actor.ppo_max_token_len_per_gpu (or the micro-batch), or share sequences with "
        "actor.fsdp_config.ulysses_sequence_parallel_size",
        "vision": "Lower actor.ppo_max_token_len_per_gpu (or the micro-batch): with sequence parallelism a GPU's share of the longest "
        "sequence is enough; or the tokens of a video (sv6d.video_tokens)",
        "logits": "Set actor_rollout_ref.model.use_fused_kernels=true",
    }
    if not config.actor_rollout_ref.model.enable_gradient_checkpointing:
        mends |= dict.fromkeys(
            ("activations", "vision"), "Set actor_rollout_ref.model.enable_gradient_checkpointing=true"
        )
    return mends[max(memory._fields, key=lambda part: getattr(memory, part))]
