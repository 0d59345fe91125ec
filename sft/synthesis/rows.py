"""SFT rows as columns (docs/data.md): some thousand are gathered as plain lists of texts and made into one table.

Row by row would cost more than to make the questions, and so would keeping the questions: the garbage collector looks through
every object that is alive, but not into texts.
"""

from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...data_mixers.rows import SFT_SCHEMA
from ...schema.document import Document
from .questions import QA

COLUMNS = ("kind", "reward", "question", "answer", "truth", "query", "name", "video", "duration")


class Rows:
    """The rows of one shard.

    Args:
        systems: system prompts by family of questions.
        videos: the folder that the documents' `video` names start from.
    """

    def __init__(self, systems: dict[str, str], videos: Path):
        self._systems, self._videos = systems, videos
        self._taken = 0
        self._columns: dict[str, list] = {name: [] for name in COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["kind"])

    def add(self, qas: list[QA], document: Document) -> None:
        """The questions of one document."""
        columns, video, count = self._columns, str(self._videos / document.video), len(qas)
        columns["kind"] += [qa.kind for qa in qas]
        columns["reward"] += [qa.reward for qa in qas]
        columns["question"] += [qa.question for qa in qas]
        columns["answer"] += [qa.answer for qa in qas]
        columns["truth"] += [qa.truth for qa in qas]
        columns["query"] += [" ".join([".".join(sub) for sub in qa.subs]) for qa in qas]
        columns["name"] += repeat(document.video, count)
        columns["video"] += repeat(video, count)
        columns["duration"] += repeat(document.duration, count)

    def take(self) -> pa.Table:
        """The rows that were added since the last time, in the SFT row format; their numbers go on."""
        told, size, first = self._columns, len(self), self._taken
        self._columns, self._taken = {name: [] for name in COLUMNS}, first + size
        said = {
            "system": _from_few([self._systems[kind.partition(".")[0]] for kind in told["kind"]]),
            "user": pa.array([f"<video>{question}" for question in told["question"]], pa.string()),
            "assistant": pa.array(told["answer"], pa.string()),
        }
        info = {
            "index": pa.array(np.arange(first, first + size)),
            "id": pa.array([f"{name}#{i}" for i, name in enumerate(told["name"], first)], pa.string()),
            "dataset": _from_few([f"synthesis/{kind}" for kind in told["kind"]]),
            "split": pa.repeat("train", size),
            "duration": pa.array(told["duration"], pa.float64()),
            "query": _from_few(told["query"]),
        }
        truth = {"style": pa.repeat("rule", size), "ground_truth": pa.array(told["truth"], pa.string())}
        kinds = {field.name: field.type for field in SFT_SCHEMA}
        videos = _struct(kinds["videos"].value_type, {"video": _from_few(told["video"])}, size)
        columns = {
            "data_source": _from_few(told["reward"]),
            "prompt": _messages({role: said[role] for role in ("system", "user")}),
            "images": _lists(_struct(kinds["images"].value_type, {}, 0), 0, size),
            "videos": _lists(videos, 1, size),
            "reward_model": _struct(kinds["reward_model"], truth, size),
            "extra_info": _struct(kinds["extra_info"], info, size),
            "messages": _messages(said),
        }
        return pa.table([columns[name] for name in SFT_SCHEMA.names], schema=SFT_SCHEMA)


def _from_few(values: list[str]) -> pa.Array:
    """A column of few different texts: each is made once."""
    places = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return pa.array([*places], pa.string()).take(pa.array([places[value] for value in values], pa.int32()))


def _messages(said: dict[str, pa.Array]) -> pa.ListArray:
    """One dialogue a row, from what each role says in all of them."""
    rows, roles = len(said["user"]), len(said)
    by_row = np.arange(rows * roles).reshape(roles, rows).T.ravel()
    columns = {
        "role": pa.array([*said] * rows, pa.string()),
        "content": pa.concat_arrays([*said.values()]).take(by_row),
    }
    return _lists(_struct(SFT_SCHEMA.field("prompt").type.value_type, columns, rows * roles), roles, rows)


def _struct(kind: pa.StructType, columns: dict[str, pa.Array], size: int) -> pa.StructArray:
    """Fields without a column are null."""
    arrays = [columns[f.name].cast(f.type) if f.name in columns else pa.nulls(size, f.type) for f in kind]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _lists(values: pa.StructArray, each: int, rows: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * each), values)
