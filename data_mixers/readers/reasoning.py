"""Reasoning about pictures: LLaVA-CoT-100k, whose answers hold summary, caption, reasoning and conclusion."""

import re
from collections.abc import Iterator
from typing import Any

from ..rows import Example
from .found import Found, Source, Unusable, guarded, json_lines

_PART = re.compile(r"<(SUMMARY|CAPTION|REASONING|CONCLUSION)>(.*?)</\1>", re.DOTALL)


def llava_cot(source: Source) -> Iterator[Found]:
    """JSON lines `{id, image, conversations: [{from, value}]}`: each turn of a person and its answer is one row. The conclusion is
    the truth, what comes before it the thought."""

    def make(row: dict[str, Any]) -> Iterator[Example]:
        turns = row["conversations"]
        for i, (asked, answered) in enumerate(zip(turns[::2], turns[1::2], strict=False)):
            if (asked["from"], answered["from"]) != ("human", "gpt"):
                raise Unusable(f"turn {i} is not asked by `human` and answered by `gpt`")
            parts = {name: text.strip() for name, text in _PART.findall(answered["value"])}
            if not parts.get("CONCLUSION"):
                raise Unusable(f"turn {i}: the answer has no <CONCLUSION>")
            thought = "\n".join(parts[name] for name in ("SUMMARY", "CAPTION", "REASONING") if parts.get(name))
            yield Example(
                "visual_reasoning",
                [str(source.media / row["image"])],
                parts["CONCLUSION"],
                query=asked["value"].replace("<image>", "").strip(),
                thought=thought,
                dataset="llava_cot",
                id=f"{row['id']}" + f"/{i}" * bool(i),
                split=source.split,
            )

    for file in source.files:
        yield from guarded(source, file, json_lines(file), make)
