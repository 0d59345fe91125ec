"""Which part of a batch a rank takes: a contiguous chunk, so that a step is a window of the mixture however many ranks there are."""


def batch_shard(batch_size: int, rank: int, world: int) -> range:
    """The places 0..batch_size-1 of every batch that belong to a rank.

    Contiguous, because a rank that takes every `world`-th place can meet one task only: with 13 equal tasks and 13 ranks,
    each rank would train a task of its own. Any rank's chunk is a window of the schedule and as balanced as its length allows.

    Raises:
        ValueError: the batch does not divide over the ranks, or there is no such rank.
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} of {world} does not exist; ranks are 0 to world - 1")
    chunk, rest = divmod(batch_size, world)
    if rest or not chunk:
        below, above = batch_size - rest, batch_size - rest + world
        near = " or ".join(str(size) for size in (below, above) if size)
        raise ValueError(
            f"a batch of {batch_size} prompts does not divide over {world} ranks, some would wait; take {near}"
        )
    return range(rank * chunk, (rank + 1) * chunk)
