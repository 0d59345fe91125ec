"""`sv6d sft` and `sv6d grpo`: from a composed recipe to its last step, over as many jobs as that takes."""
