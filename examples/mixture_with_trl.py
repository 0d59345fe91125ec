"""TRL's GRPOTrainer on prompts that sv6d mixes and scores: every step holds each task's share, also after a resumption.

    pip install 'sv6d' trl
    python examples/mixture_with_trl.py --steps 4                    # a tiny random model, on any machine
    python examples/mixture_with_trl.py --model Qwen/Qwen3-0.6B      # a real one

GRPOTrainer asks `_get_train_sampler` for the order of the rows. It wants each prompt `num_generations` times in a row (its
rollouts are samples) and each generation batch as often as it is trained on; `MixtureSampler` does both, in the mixture's order.
"""

import argparse
import tempfile

import torch
from datasets import Dataset
from sv6d.data_mixers.torch_sampler import MixtureSampler
from sv6d.rewards import score
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

WEIGHTS = {"ocr_regular": 2, "ocr_handwritten": 1, "visual_reasoning": 1}
ROWS = {"ocr_regular": 10, "ocr_handwritten": 6, "visual_reasoning": 3}


class MixtureGRPOTrainer(GRPOTrainer):
    """GRPOTrainer that draws its prompts by weights; the dataset has a column `task`, and the settings `max_steps`."""

    weights = WEIGHTS

    def _get_train_sampler(self, dataset=None):
        config = self.args
        passes = self.num_iterations * config.steps_per_generation
        prompts = config.generation_batch_size // self.num_generations
        batches = -(-config.max_steps * config.gradient_accumulation_steps // passes)
        return MixtureSampler(
            (dataset or self.train_dataset)["task"],
            batch_size=prompts,
            length=batches * prompts,
            weights=self.weights,
            seed=config.seed,
            repeats=self.num_generations,
            passes=passes,
        )


def rows() -> Dataset:
    """A few prompts by task; yours have images or videos and come from `sv6d.data_mixers.rows.read_rows`."""
    return Dataset.from_list(
        [
            {"task": task, "id": f"{task}/{i}", "prompt": f"Write the number {i}:", "ground_truth": str(i)}
            for task, count in ROWS.items()
            for i in range(count)
        ]
    )


def reward(completions, task, ground_truth, **_) -> list[float]:
    """The reward of each completion by its task's family (Table 4)."""
    return [score(*each).value for each in zip(task, completions, ground_truth, strict=True)]


def tiny_model():
    """A random model and a tokenizer of single bytes: nothing is downloaded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(alphabet), eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id, **sizes
    )
    return LlamaForCausalLM(config), fast


def train(
    steps: int, folder: str, model: str | None = None, resume: bool = False, watch=None, **more
) -> MixtureGRPOTrainer:
    """Train for a few steps of 4 prompts x 2 rollouts; `watch`, a second reward that counts nothing, sees every sample."""
    network, tokenizer = tiny_model() if model is None else (model, AutoTokenizer.from_pretrained(model))
    settings = {
        "per_device_train_batch_size": 8,
        "num_generations": 2,
        "max_completion_length": 4,
        "learning_rate": 1e-4,
        "save_strategy": "steps",
        "save_steps": steps,
        "logging_steps": 1,
        "report_to": "none",
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
    }
    config = GRPOConfig(output_dir=folder, max_steps=steps, **settings | more)
    functions = [reward] if watch is None else [reward, watch]
    config.reward_weights = [1.0, 0.0][: len(functions)]
    trainer = MixtureGRPOTrainer(
        model=network, processing_class=tokenizer, reward_funcs=functions, args=config, train_dataset=rows()
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--model", help="name or folder of a causal language model; default: a tiny random one")
    arguments = parser.parse_args()
    seen: list[str] = []

    def watch(completions, task, **_):
        seen.extend(task[::2])  # the two rollouts of a prompt stand side by side
        return [0.0] * len(completions)

    with tempfile.TemporaryDirectory() as folder:
        train(arguments.steps, folder, arguments.model, watch=watch)
    for step in range(arguments.steps):
        drawn = seen[4 * step : 4 * step + 4]
        print(f"step {step + 1}: " + ", ".join(f"{drawn.count(task)} {task}" for task in WEIGHTS))


if __name__ == "__main__":
    main()
