"""The warm start's dataset for verl's SFT trainer: rows of all tasks in the mixture's order, with the prompt of RL (5.1).

`data.custom_cls.path=pkg://sv6d.sft.verl_dataset data.custom_cls.name=SFTDataset`, with `data.mixture: {weights, seed, length}`.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import Dataset

from ..data_mixers.mixture import Mixture
from ..data_mixers.rows import RowError, validate_row
from ..data_mixers.skipped import SkippedRows
from ..rewards.families import find_taxonomy
from .prompt import Prompter
from .rows import Row, TaskRows, rows_by_task, spread


class SFTDataset(Dataset):
    """Prompt and answer of each row as verl's SFT trainer wants them.

    The training set is indexed by position in the mixture, over `data.mixture.length` positions (one pass over the rows by
    default); any other set keeps the order of its files. A row that is broken, does not decode, or is longer than
    `data.max_length` tokens, is replaced by its task's next row: it is logged, and listed in `data.mixture.skipped_rows` if that
    folder is set.

    Args:
        parquet_files: a folder, a file, or a list of files, of SFT rows (`data_mixers.rows.to_sft_row`).
        tokenizer, processor: as verl loads them.
        config: verl's `data` block with ours in it: `cache_gb`, and `mixture` as in `data_mixers.verl_dataset`.
        max_samples: rows to keep in all, spread evenly over the tasks; -1 keeps every row.

    Raises:
        ValueError: the chat template does not end a turn with the tokenizer's end token.
    """

    def __init__(self, parquet_files, tokenizer, config: DictConfig, processor=None, max_samples: int = -1):
        self.tokenizer = tokenizer
        self.max_length = config.max_length
        self.prompter = Prompter(tokenizer, processor, config)
        self.rows = spread(rows_by_task(parquet_files), max_samples)
        self.mixture = mixture_of(self.rows, config) if parquet_files == config.train_files else None
        self.ends = dict(zip(self.rows, accumulate(map(len, self.rows.values())), strict=True))
        settings = config.get("mixture", {})
        self.length = (self.mixture and settings.get("length")) or sum(map(len, self.rows.values()))
        self.taxonomy = find_taxonomy(settings.get("taxonomy"))
        self.skipped = SkippedRows(settings.get("skipped_rows"))
        self.cache = Cache(config.get("cache_gb", 2.0) * 1e9)
        check_end_of_turn(tokenizer, config)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Any]:
        """`input_ids`, `loss_mask` (n,), `position_ids` (4, n) or (n,), `multi_modal_inputs` (empty for text)."""
        task, row = self.mixture.locate(position)[:2] if self.mixture else self._in_order(position)
        rows = self.rows[task]
        for attempt in range(len(rows)):
            item = self._item(task, (row + attempt) % len(rows))
            if item is not None:
                return item
        raise RowError(f"{task}: not one of its {len(rows)} rows can be used. {self.skipped.reasons(task)}")

    def _in_order(self, position: int) -> tuple[str, int]:
        """Task and row where the tasks come one after the other."""
        for task, end in self.ends.items():
            if position < end:
                return task, position - end + len(self.rows[task])
        raise IndexError(position)

    def state(self, position: int) -> dict[str, Any]:
        """What a run saves to go on at a position: under 1 KB."""
        return self.mixture.state(position)

    def resume(self, state: Mapping[str, Any]) -> int:
        """The position of a saved state.

        Raises:
            MixtureMismatch: another mixture saved it: other rows, weights or seed.
        """
        return self.mixture.resume(state)[1]

    def _item(self, task: str, index: int) -> dict[str, Any] | None:
        """One row's tensors, remembered; None for a row that cannot be used."""
        key = (task, index)
        if key in self.skipped:
            return None
        item = self.cache.get(key)
        if item is None:
            row = self.rows[task][index]
            try:
                validate_row(row, "", self.taxonomy)
                item = self.encode(row)
            except (
                Exception
            ) as error:  # whatever a decoder, a processor or a malformed row raises costs one row, not the run
                self.skipped.add(key, row, f"{type(error).__name__}: {error}")
                return None
            self.cache.put(key, item)
        return {**item, "multi_modal_inputs": dict(item["multi_modal_inputs"])}

    def encode(self, row: Row) -> dict[str, Any]:
        """A row's tensors; the loss counts the answer and the token that ends it.

        Raises:
            RowError: no answer, or more than `data.max_length` tokens. Decoders raise what they like.
        """
        if not row.get("messages") or row["messages"][-1]["role"] != "assistant":
            raise RowError("its `messages` do not end with an assistant turn; is it a row for RL?")
        prompt, features = self.prompter.prompt(row)
        answer = self.tokenizer(row["messages"][-1]["content"], add_special_tokens=False).input_ids
        ids = torch.tensor([*prompt, *answer, self.tokenizer.eos_token_id])
        if len(ids) > self.max_length:
            raise RowError(
                f"{len(ids)} tokens are more than data.max_length={self.max_length}; raise it or lower the row's pixels"
            )
        loss_mask = torch.ones_like(ids)
        loss_mask[: len(prompt)] = 0
        positions = self.prompter.positions(ids, features)
        return {"input_ids": ids, "position_ids": positions, "loss_mask": loss_mask, "multi_modal_inputs": features}


class Cache:
    """Tensors of rows up to a number of bytes. What came first stays: with a cyclic order, evicting would lose every hit."""

    def __init__(self, capacity: float):
        self.capacity, self.used, self._items = capacity, 0, {}

    def get(self, key):
        return self._items.get(key)

    def put(self, key, item: dict[str, Any]) -> None:
        size = sum(
            value.nbytes for value in (*item.values(), *item["multi_modal_inputs"].values()) if torch.is_tensor(value)
        )
        if self.used + size <= self.capacity:
            self._items[key] = item
            self.used += size


def mixture_of(rows: dict[str, TaskRows], config: DictConfig) -> Mixture:
    settings = config.get("mixture", {})
    weights = settings.get("weights")
    sizes = {task: len(own) for task, own in rows.items()}
    return Mixture(sizes, dict(weights) if weights else None, settings.get("seed", 0))


def check_end_of_turn(tokenizer, config: DictConfig) -> None:
    """The token that ends an answer must be the one that the chat template ends a turn with, else the policy never stops.

    Raises:
        ValueError: it is not.
    """
    turn = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, **config.get("apply_chat_template_kwargs", {}))
    if not text.rstrip().endswith(tokenizer.eos_token):
        raise ValueError(
            f"the chat template ends a turn with {text.rstrip()[-12:]!r}, the tokenizer's end token is {tokenizer.eos_token!r}; "
            f"set eos_token in the model's tokenizer_config.json to the one that the template writes"
        )
