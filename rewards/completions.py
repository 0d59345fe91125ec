"""The text of a completion, which other trainers and recorded results may hold as messages."""

from collections.abc import Mapping
from typing import Any


def response_text(completion: Any) -> str:
    """What the model wrote: the text itself, or that of the last assistant message, its separated thinking put back.

    Raises:
        ValueError: there is no text.
    """
    if isinstance(completion, str):
        return completion
    said = [message for message in completion or () if _field(message, "role") == "assistant"]
    if not said:
        raise ValueError(f"completion {completion!r:.80}: has no assistant message")
    content, thought = _field(said[-1], "content"), _field(said[-1], "reasoning_content")
    if not isinstance(content, str):  # blocks of a multimodal conversation
        content = "".join(str(_field(block, "text") or "") for block in content or ())
    return f"<think>{thought}</think>{content}" if thought and "</think>" not in content else content


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)
