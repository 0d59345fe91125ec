"""A verifiers environment on sv6d's rewards, for evaluation with `vf-eval` and training with prime-rl.

    pip install sv6d verifiers
    python examples/verifiers_env.py --url http://host:8000/v1 --model NAME    # any OpenAI-compatible endpoint

Installed as a package of its own, `load_environment` below is all that verifiers asks of it.
"""

import argparse

import verifiers as vf
from datasets import Dataset
from openai import AsyncOpenAI
from sv6d.rewards.adapters.verifiers import rubric

# One row a question: `answer` is the ground truth, as text; `info["task"]` says how it is scored.
ROWS = [
    {
        "question": 'A ball drops at 2 s and rests at 5 s. Answer with JSON: {"segments": [{"start": 0.0, "end": 1.0}]}',
        "answer": '[{"start": 2, "end": 5}]',
        "info": {"task": "temporal_action_localization"},
    },
    {"question": "Repeat to the letter: red ball", "answer": "red ball", "info": {"task": "ocr_regular"}},
]


def load_environment(rows: list[dict] | None = None, **settings) -> vf.Environment:
    """Settings are those of verl's reward_kwargs: alpha=0.7, taxonomy="mine.yaml", judge={"url": ..., "model": ...}."""
    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows or ROWS), rubric=rubric(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    client = AsyncOpenAI(base_url=arguments.url, api_key="none")
    results = load_environment().evaluate_sync(client, arguments.model, num_examples=-1, rollouts_per_example=4)
    for output in results["outputs"]:
        applying = {name: value for name, value in output["metrics"].items() if value}
        print(output["info"], output["reward"], applying)


if __name__ == "__main__":
    main()
