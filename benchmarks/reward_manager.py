"""What a rollout costs on its way through verl's reward loop: python benchmarks/reward_manager.py

Decode, route, score, return, for the 3,120 rollouts of `benchmarks/rewards.py` as verl's agent loop hands them over, a
tokenizer of Hugging Face's fast kind, and 64 rollouts at a time on one event loop. CPU time of the whole process, threads
included; the least of several rounds, in which the managers take turns.

Prints microseconds of CPU a rollout, and the ratio of `sv6d` to verl's naive manager with the same async function.
"""

import asyncio
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from tensordict import TensorDict
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager

from rewards import Sample, workload

ROUNDS = 7
TOGETHER = 64
PROMPT = 128  # tokens before each response

FUNCTION = {"path": "pkg://sv6d.rewards.verl_manager", "name": "compute_score"}


def main() -> None:
    samples = workload()
    tokenizer = byte_level_bpe(sample.response for sample in samples)
    rollouts = [as_verl_hands_it_over(sample, tokenizer) for sample in samples]
    managers = {
        "verl's naive, same async function": load_manager("naive", FUNCTION, tokenizer),
        "sv6d": load_manager("sv6d", {"path": None, "name": None}, tokenizer),
    }
    scores = {name: asyncio.run(score_all(manager, rollouts)) for name, manager in managers.items()}  # and warm up
    first, *others = scores.values()
    assert all(np.array_equal(first, other) for other in others), "the managers disagree"

    least = dict.fromkeys(managers, float("inf"))
    for _ in range(ROUNDS):
        for name, manager in managers.items():
            start = time.process_time()
            asyncio.run(score_all(manager, rollouts))
            least[name] = min(least[name], time.process_time() - start)
    decode = min(timed_decode(tokenizer, rollouts) for _ in range(ROUNDS))

    table = Table("", "us of CPU a rollout", "ratio", title=f"{len(rollouts):,} rollouts, mean {np.mean(first):.3f}")
    naive = least["verl's naive, same async function"]
    for name, seconds in least.items():
        table.add_row(name, f"{seconds / len(rollouts) * 1e6:.0f}", f"{seconds / naive:.2f}")
    table.add_row("  of it, decoding alone", f"{decode / len(rollouts) * 1e6:.0f}", f"{decode / naive:.2f}")
    Console().print(table)


def load_manager(name: str, function: dict, tokenizer):
    """The manager as verl's reward loop worker loads it."""
    reward = {"reward_manager": {"source": "register", "name": name}, "custom_reward_function": function}
    return load_reward_manager(OmegaConf.create({"reward": reward}), tokenizer)


def byte_level_bpe(texts) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer like Qwen's, learnt from the responses."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, initial_alphabet=alphabet, special_tokens=["<pad>"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def as_verl_hands_it_over(sample: Sample, tokenizer) -> DataProto:
    """One rollout as `AgentLoopWorker._compute_score` builds it."""
    response = torch.tensor(tokenizer.encode(sample.response) or [0])
    prompt = torch.ones(PROMPT, dtype=torch.int64)
    ids = torch.cat([prompt, response])
    batch = TensorDict(
        {
            "prompts": prompt[None],
            "responses": response[None],
            "attention_mask": torch.ones_like(ids)[None],
            "input_ids": ids[None],
            "position_ids": torch.arange(len(ids))[None],
        },
        batch_size=1,
    )
    row = {
        "data_source": sample.family,
        "reward_model": {"style": "rule", "ground_truth": sample.truth},
        "extra_info": {"index": 0, "dataset": "benchmark"},
        "uid": "0",
        "raw_prompt": [{"role": "user", "content": "?"}],
        "tool_extra_fields": {},
    }
    columns = {key: np.array([value], dtype=object) for key, value in row.items()}
    columns |= {
        "__num_turns__": np.array([2]),
        "prompt_len": np.array([PROMPT]),
        "response_len": np.array([len(response)]),
    }
    return DataProto(batch=batch, non_tensor_batch=columns)


async def score_all(manager, rollouts: list[DataProto]) -> np.ndarray:
    """The score of each, `TOGETHER` at a time."""
    manager.loop = asyncio.get_running_loop()  # verl's workers have one loop for life; here each round has its own
    scores = []
    for start in range(0, len(rollouts), TOGETHER):
        results = await asyncio.gather(*[manager.run_single(r) for r in rollouts[start : start + TOGETHER]])
        scores += [result["reward_score"] for result in results]
    return np.array(scores)


def timed_decode(tokenizer, rollouts: list[DataProto]) -> float:
    start = time.process_time()
    for rollout in rollouts:
        tokenizer.decode(rollout.batch["responses"][0], skip_special_tokens=True)
    return time.process_time() - start


if __name__ == "__main__":
    main()
