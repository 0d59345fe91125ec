"""A rank that cannot save tells the others: without this they would wait for it at verl's barrier, and no later step could run."""

from pathlib import Path

import torch.distributed as dist


class RankNotSaved(RuntimeError):
    """Some rank could not write its shard; raised on every rank."""


class SavesTogether:
    """Mixin over a verl engine with a `checkpoint_manager`."""

    def save_checkpoint(self, local_path, *args, **kwargs):
        """
        Raises:
            RankNotSaved: after every rank has left verl's saving.
        """
        self._agree(_failure(Path(local_path).mkdir, parents=True, exist_ok=True))
        manager, failures = self.checkpoint_manager, []
        save = manager.save_checkpoint

        def save_and_meet(*arguments, **settings):
            failure = _failure(save, *arguments, **settings)
            if failure is not None:
                if manager.should_save_hf_model:  # collective, beyond the shards: the others are in the middle of it
                    raise RankNotSaved(failure)
                failures.append(failure)
                dist.barrier()  # the one that verl's saving ends with, where the others wait

        manager.save_checkpoint = save_and_meet
        try:
            super().save_checkpoint(local_path, *args, **kwargs)
        finally:
            del manager.save_checkpoint
        self._agree(failures[0] if failures else None)

    def _agree(self, failure: str | None) -> None:
        found = [None] * dist.get_world_size()
        dist.all_gather_object(found, failure)
        told = [f"rank {rank}: {text}" for rank, text in enumerate(found) if text]
        if told:
            raise RankNotSaved("; ".join(told))


def _failure(act, *args, **kwargs) -> str | None:
    """What went wrong in words; None where nothing did. A full disk is an OSError of Python's, a RuntimeError of torch's, an error of
    its own of safetensors', and a bare Exception of tokenizers'."""
    try:
        act(*args, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None
