"""GRPO with TRL on sv6d's rewards: two tasks in one data set, each scored by its own family.

pip install sv6d trl
python examples/trl_grpo.py                                        # a tiny random model, on any machine
python examples/trl_grpo.py --model Qwen/Qwen3-0.6B --steps 200    # a real one
"""

import argparse
import tempfile

import torch
from datasets import Dataset
from mixture_with_trl import tiny_model
from sv6d.rewards.adapters.trl import SV6DReward
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

# One row a question: `task` says how the answer is scored, `ground_truth` what it is scored against, as text.
ROWS = [
    {
        "task": "temporal_action_localization",
        "prompt": 'A ball drops at 2 s and rests at 5 s. Answer with JSON: {"segments": [{"start": 0.0, "end": 1.0}]}',
        "ground_truth": '[{"start": 2, "end": 5}]',
    },
    {"task": "ocr_regular", "prompt": "Repeat to the letter: red ball", "ground_truth": "red ball"},
] * 4

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def train(rows: list[dict], folder: str, steps: int = 2, model: str | None = None, settings=None) -> GRPOTrainer:
    """Train for a few steps of 2 prompts x 4 rollouts; a prompt is a text or a conversation."""
    network, tokenizer = tiny_model() if model is None else (model, AutoTokenizer.from_pretrained(model))
    tokenizer.chat_template = tokenizer.chat_template or TEMPLATE
    config = GRPOConfig(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=16 if model is None else 512,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = GRPOTrainer(
        model=network,
        processing_class=tokenizer,
        args=config,
        train_dataset=Dataset.from_list(rows),
        # Settings are those of verl's reward_kwargs: {"alpha": 0.7, "taxonomy": "mine.yaml", "judge": {"url": ..., "model": ...}}
        reward_funcs=SV6DReward(settings),
    )
    trainer.train()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--model", help="name or folder of a causal language model; default: a tiny random one")
    arguments = parser.parse_args()
    rows = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in ROWS]
    with tempfile.TemporaryDirectory() as folder:
        trainer = train(rows, folder, arguments.steps, arguments.model)
    for step, logged in enumerate(trainer.state.log_history[:-1], start=1):
        means = {name.removeprefix("sv6d/"): value for name, value in logged.items() if name.startswith("sv6d/")}
        print(f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items() if "/" not in name))


if __name__ == "__main__":
    main()
