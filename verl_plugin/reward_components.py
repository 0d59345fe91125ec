"""The reward components of rollouts, which the V1 trainers leave in TransferQueue."""

import transfer_queue as tq


def reward_components(keys, partition_id) -> list[dict[str, float]]:
    """What the reward manager gave for each key beside the score; empty where it gave nothing."""
    data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["extra_fields"])
    extras = [extra if isinstance(extra, dict) else getattr(extra, "data", extra) for extra in data["extra_fields"]]
    return [(extra or {}).get("reward_extra_info") or {} for extra in extras]
