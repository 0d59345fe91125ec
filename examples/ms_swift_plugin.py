"""sv6d's rewards in ms-swift: a plug-in file, named on its command line.

    pip install sv6d ms-swift
    swift rlhf --rlhf_type grpo --model Qwen/Qwen3-VL-4B-Instruct --dataset rows.jsonl \
        --external_plugins examples/ms_swift_plugin.py \
        --reward_funcs sv6d sv6d_format sv6d_iou sv6d_label --reward_weights 1 0 0 0

A row of rows.jsonl: {"messages": [...], "videos": [...], "task": "shot_framing", "ground_truth": "[{...}]"}.  The components
have the weight 0: they are only logged.
"""

from sv6d.rewards.adapters.ms_swift import register

# Settings are those of verl's reward_kwargs: {"taxonomy": "mine.yaml", "judge": {"url": ..., "model": ...}}
register({"alpha": 0.5})
