"""verl's dataset on the mixture: position in, prompt out (section 5.2.4: every gradient step covers all task families).

Set `data.custom_cls` to `pkg://sv6d.data_mixers.verl_dataset` and `MixtureDataset`, `data.shuffle=False`, and
`data.mixture.length` to the prompts of the run; docs/data.md shows the whole block.
"""

import asyncio
import logging
from functools import partial
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from omegaconf import OmegaConf
from qwen_vl_utils import fetch_image
from torch.utils.data import get_worker_info
from verl.utils.dataset.rl_dataset import RLHFDataset

from ..rewards.families import find_taxonomy
from .clips import fetch
from .look_ahead import LookAhead
from .media import DECODE_SECONDS, probe
from .mixture import Mixture
from .prompt_length import prompt_builder, prompt_tokens
from .rows import MEDIA_OPTIONS, RL_SCHEMA, RowError, fill_options, resolve_media
from .skipped import SkippedRows
from .sources import examine_rows, row_files, task_order

logger = logging.getLogger(__name__)

_SETTINGS = {
    "weights": None,
    "mode": "prefix",
    "seed": 0,
    "exhausted": "repeat",
    "on_change": "refuse",
    "length": None,
    "skipped_rows": None,
    "taxonomy": None,
    "video": {},
    "decode_seconds": DECODE_SECONDS,
}


class MixtureDataset(RLHFDataset):
    """Row files, one a task, as the training stream of a `Mixture`; validation files in plain order.

    The stream is a function of the position alone. The state is the position and the mixture's identity, which refuses a
    checkpoint of another mixture.

    Args:
        data_files: a folder of row files, or a list of row files and folders. When equal to `config.train_files`, the
            dataset is the stream.
        config: verl's `data` block, with `mixture`:
            weights: share by task, or a list of segments `{start, weights, ramp}`, whose starts are positions; null weighs
                the tasks equally.
            mode: of the schedule, "prefix" or "window".
            seed: key of the shuffles.
            exhausted: what happens when a task's rows are used up: "repeat", "stop" or "renormalise" (see `Mixture`).
            on_change: when a checkpoint was saved with other weights: "refuse" it, or "carry" on: the weights of now begin
                where it was saved, and what tasks are owed is repaid.
            length: prompts in the whole run, at least steps x train_batch_size; prompts prefetched beyond the last step
                count too.
            skipped_rows: folder for `skipped_rows.jsonl`, the list of rows that could not be used; null only logs.
            video: how videos are sampled whose rows do not say it: qwen-vl-utils' options (`MEDIA_OPTIONS`), of which a row
                that sets one of the times sets all, and so of the sizes.
            taxonomy: path or plugged-in name of the taxonomy that the ground truths use, as in `reward.reward_kwargs`; null
                for ours.
            decode_seconds: how long looking at a media file, or decoding it, may take before its process is ended.
        max_samples: of validation files, use this many rows, evenly over the tasks; -1 for all.

    Raises:
        RowError: a row is of no task, or too many rows of a task are broken or lack their media.
        ValueError: a setting of `data` contradicts the stream.
    """

    def __init__(self, data_files, tokenizer, config, processor=None, max_samples: int = -1):
        self.settings = _settings(config)
        self.skipped = SkippedRows(self.settings["skipped_rows"])
        self.training = data_files == config.get("train_files")
        if self.training:
            _refuse_contradictions(config, self.settings, max_samples)
        super().__init__(row_files(data_files), tokenizer, config, processor, max_samples)

    def _read_files_and_tokenize(self) -> None:
        rows, self._broken = examine_rows(self.data_files, find_taxonomy(self.settings["taxonomy"]))
        self._looks = LookAhead(self._row_error)
        self._looked_to = 0
        self._builder = None
        self.dataframe = datasets.Dataset(pa.Table.from_pylist(rows, RL_SCHEMA))
        source = np.array([row["data_source"] for row in rows])
        self.rows_of = {task: np.flatnonzero(source == task) for task in task_order(source.tolist())}
        self.order = np.arange(len(rows))
        if self.training:
            sizes = {task: len(of_task) for task, of_task in self.rows_of.items()}
            chosen = {key: self.settings[key] for key in ("weights", "seed", "exhausted", "mode")}
            self.mixture = Mixture(sizes, **chosen)
            self._next = 0
            self._announce(len(rows))
        elif 0 < self.max_samples < len(rows):
            rank = np.empty(len(rows), np.int64)
            for of_task in self.rows_of.values():
                rank[of_task] = np.arange(len(of_task))
            self.order = np.sort(np.argsort(rank, kind="stable")[: self.max_samples])

    def __getstate__(self) -> dict[str, Any]:
        """All of it, rows included: verl's leaves the rows out, which breaks workers that are spawned."""
        return {**self.__dict__, "_builder": None}

    def _announce(self, rows: int) -> None:
        step = self.config.get("train_batch_size") or 1
        self.mixture.require(len(self), step)
        about = (len(self), rows, len(self.rows_of), self.mixture.fingerprint)
        logger.info("a stream of %d prompts over %d rows of %d tasks, fingerprint %s", *about)
        for task, position in self.mixture.exhaustions:
            if position < len(self):
                about = (len(self.rows_of[task]), task, position, position // step + 1)
                logger.info("the %d rows of %s are used up at position %d (step %d)", *about)

    def __len__(self) -> int:
        return self.settings["length"] if self.training else len(self.order)

    def __getitem__(self, position: int) -> dict[str, Any]:
        if not self.training:
            index = self.order[position]
            task = self.dataframe[int(index)]["data_source"]
            return self._item(task, int(np.searchsorted(self.rows_of[task], index)))
        self._next = position + 1
        task, row, epoch = self.mixture.locate(position)
        item = self._item(task, row, position=position, epoch=epoch)
        self._look_ahead(position + 1)
        return item

    def _look_ahead(self, position: int) -> None:
        """Look at the rows of the next step while this one trains."""
        end = min(position + (self.config.get("train_batch_size") or 1), len(self))
        for ahead in range(max(position, self._looked_to), end):
            task, row, _ = self.mixture.locate(ahead)
            self._looks.begin([int(self.rows_of[task][row])])
        self._looked_to = max(self._looked_to, end)

    def refill(self, task: str, number: int) -> dict[str, Any]:
        """A prompt in place of one that failed or taught nothing: same task, off the stream, so that no position moves.

        Refills have shuffles of their own; `number` counts the refills of the task from 0. Same number, same prompt.
        """
        _, row, epoch = self.mixture.refill(task, number)
        return self._item(task, row, position=-1, epoch=epoch)

    def _item(self, task: str, row: int, **about: int) -> dict[str, Any]:
        row = self._usable(task, row)
        item = super().__getitem__(int(self.rows_of[task][row]))
        item["extra_info"].update(about)
        for part in _media_parts(item["raw_prompt"]):  # the rollouts' decoder is told nothing else of the row
            part["row"] = [task, row, item["extra_info"].get("id")]
        return item

    def _usable(self, task: str, row: int) -> int:
        """Number of the first row of the task, from `row` on and around, that can be trained on."""
        of_task = self.rows_of[task]
        for step in range(len(of_task)):
            candidate = (row + step) % len(of_task)
            index = int(of_task[candidate])
            error = self._looks.result(index)
            if error is None:
                return candidate
            self.skipped.add((task, candidate), self.dataframe[index], error)
        raise RowError(
            f"none of the {len(of_task)} rows of {task} can be used: {self.skipped.reasons(task)}. "
            f"Mend them or take the task's file out of data.train_files"
        )

    def _row_error(self, index: int) -> str | None:
        """Why a row cannot be trained on; looked up once, so that a resumed run and this one agree."""
        return self._broken.get(index) or self._media_error(index) or self._length_error(index)

    def _media_error(self, index: int) -> str | None:
        row = self.dataframe[index]
        local = ((item[kind], kind) for kind in MEDIA_OPTIONS for item in row[kind + "s"] if "://" not in item[kind])
        looks = (probe(path, kind, self.settings["decode_seconds"]) for path, kind in local)
        return next((found.error for found in looks if found.error), None)

    def _length_error(self, index: int) -> str | None:
        """A multimodal prompt that is too long is an error in the rollout; one of text alone is cut there, if it may be."""
        row = self.dataframe[index]
        if self.truncation != "error" and not row["images"] and not row["videos"]:
            return None
        if self._builder is None:
            self._builder = prompt_builder(self.tokenizer, self.processor, self.config)
        messages = self._build_messages(row, key=self.prompt_key)
        try:
            seconds = self.settings["decode_seconds"]
            tokens = prompt_tokens(messages, self._builder, self.image_patch_size, self.tool_schemas, seconds)
        except ValueError as error:  # a clip too short for its fps, sides of 200 to 1: what the rollout would meet too
            return f"its media cannot be prepared: {error}"
        if tokens is None or tokens <= self.max_prompt_length:
            return None
        return (
            f"its prompt has {tokens:,} tokens, more than data.max_prompt_length={self.max_prompt_length:,}; "
            f"raise that, or lower the row's fps or pixels"
        )

    def _build_messages(self, example: dict, key: str) -> list[dict]:
        example.update(resolve_media(example, ""))
        example["videos"] = [fill_options(video, self.settings["video"]) for video in example["videos"]]
        return super()._build_messages(example, key)

    def metrics(self, position: int) -> dict[str, float]:
        """Of the stream before a position: how often each task's rows were gone through, and rows that could not be used."""
        epochs = {f"mixture/{task}/epochs": done for task, done in self.mixture.epochs(position).items()}
        return {**epochs, "sv6d/skipped_rows": self.skipped.count()}

    def state(self, position: int) -> dict[str, Any]:
        """What a run saves to go on at a position: under 1 KB."""
        return self.mixture.state(position)

    def resume(self, state: dict[str, Any]) -> int:
        """The position to go on at; the stream is from there on as it was when the state was saved.

        Raises:
            MixtureMismatch: another mixture saved it; with other weights, unless `data.mixture.on_change` is "carry".
        """
        self.mixture, self._next = self.mixture.resume(state, self.settings["on_change"])
        return self._next

    def state_dict(self) -> dict[str, Any]:
        """What torchdata's loader keeps beside its own state; the position is exact where no workers fetch ahead."""
        return self.state(self._next) if self.training else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check a state of `state_dict` and go on with its mixture.

        Raises:
            MixtureMismatch: as `resume`; also weights that change under torchdata's workers, which know no common position.
        """
        if not self.training:
            return
        carry = self.settings["on_change"] == "carry" and get_worker_info() is None
        self.mixture, self._next = self.mixture.resume(state, "carry" if carry else "refuse")

    @classmethod
    def _process_multi_modal_info(cls, messages: list[dict], image_patch_size: int, config) -> tuple:
        parts = _media_parts(messages)
        if not all(isinstance(part.get("video", ""), str) for part in parts):
            return super()._process_multi_modal_info(messages, image_patch_size, config)
        settings = _settings(config)
        seconds = settings["decode_seconds"]
        try:
            images = [fetch_image(part, image_patch_size) for part in parts if part["type"] == "image"]
            videos = [fetch(part, image_patch_size, seconds) for part in parts if part["type"] == "video"]
            return images or None, videos or None, cls._extract_audio_info(messages)
        except Exception as error:  # whatever a decoder raises: it does not say which file
            reason = f"media do not decode: {parts}: {type(error).__name__}: {error}"
            _list_skipped(settings["skipped_rows"], parts, reason)
            raise RowError(f"{reason}; `sv6d data validate` finds such rows, remove them from the row file") from error

    @classmethod
    async def process_multi_modal_info(cls, messages: list[dict], image_patch_size: int, config) -> tuple:
        """Images, videos with metadata, audios. `sv6d.verl_plugin.rollouts` lets the rollouts of a prompt share them."""
        decode = partial(cls._process_multi_modal_info, messages, image_patch_size=image_patch_size, config=config)
        return await asyncio.get_running_loop().run_in_executor(None, decode)

    @classmethod
    async def process_vision_info(cls, messages: list[dict], image_patch_size: int, config) -> tuple:
        """Images and videos of `process_multi_modal_info`."""
        images, videos, _ = await cls.process_multi_modal_info(messages, image_patch_size, config)
        return images, videos


def _media_parts(messages: list[dict]) -> list[dict]:
    parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
    return [part for part in parts if "text" not in part]


def _list_skipped(folder: str | None, parts: list[dict], reason: str) -> None:
    """List a row that failed in the rollouts beside those that the dataset found; its group is replaced by the replay buffer."""
    for task, number, name in [part["row"] for part in parts if "row" in part][:1]:
        SkippedRows(folder).add((task, number), {"extra_info": {"id": name}}, reason)


def _settings(config) -> dict[str, Any]:
    given = dict(config.get("mixture") or {})
    unknown = set(given) - set(_SETTINGS)
    if unknown:
        raise ValueError(f"data.mixture.{sorted(unknown)[0]} is unknown; data.mixture takes {', '.join(_SETTINGS)}")
    given = {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in given.items()
    }
    for option in (given.get("video") or {}).keys() - set(MEDIA_OPTIONS["video"]):
        options = ", ".join(MEDIA_OPTIONS["video"])
        raise ValueError(f"data.mixture.video.{option} is unknown; a video takes {options}")
    return {**_SETTINGS, **given, "video": given.get("video") or {}}


def _refuse_contradictions(config, settings: dict[str, Any], max_samples: int) -> None:
    length = settings["length"]
    if not isinstance(length, int) or length < 1:
        raise ValueError(
            f"data.mixture.length is {length!r}; set it to the prompts of the run, steps x train_batch_size"
        )
    if settings["on_change"] not in ("refuse", "carry"):
        raise ValueError(f"data.mixture.on_change is {settings['on_change']!r}; set it to refuse or carry")
    if config.get("shuffle", False):
        raise ValueError("data.shuffle is True, which would undo the interleaving; set data.shuffle=False")
    if config.get("filter_overlong_prompts", False):
        raise ValueError(
            "data.filter_overlong_prompts would decode all media; set it to False and bound fps and pixels"
        )
    if max_samples > 0:
        raise ValueError(f"data.train_max_samples is {max_samples}; the stream's length is data.mixture.length, set -1")
    if config.get("train_files") == config.get("val_files"):
        raise ValueError("data.val_files equals data.train_files; validate on held-out rows")
