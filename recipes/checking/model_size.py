"""How large a model is, from its `config.json` alone: what the memory and disk estimates stand on.

Dense Qwen-like models are counted layer by layer (exact for Qwen3-VL); of others the size of the weight files is taken.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .finding import NotKnown

PUBLISHED = {
    # name: hidden, layers, heads, intermediate, tied embeddings, and of the vision tower hidden, layers, intermediate
    "Qwen3-VL-2B": (2048, 28, 16, 6144, True, 1024, 24, 4096),
    "Qwen3-VL-4B": (2560, 36, 32, 9728, True, 1024, 24, 4096),
    "Qwen3-VL-8B": (4096, 36, 32, 12288, False, 1152, 27, 4304),
    "Qwen3-VL-32B": (5120, 64, 64, 25600, False, 1152, 27, 4304),
}
"""Sizes of models that a recipe may name without having them here. They share 8 key heads of 128, a vocabulary of 151,936,
patches of 16 pixels, 2,304 positions and three DeepStack mergers."""


class ModelSize(NamedTuple):
    """The sizes that memory depends on.

    Attributes:
        parameters: of the whole model.
        language_linear: (inputs, outputs) of each linear layer of one decoder layer.
        layer: parameters of one decoder layer.
        embedding: parameters of the token embeddings (and as many of the head, where it is not tied).
        hidden, layers, intermediate: of the decoder.
        key_values: numbers that a token leaves in the KV cache of one layer: keys and values over all key heads.
        vocabulary: rows of the embedding.
        vision_hidden, vision_layers, vision_intermediate: of the vision tower; 0 where there is none.
        patches: of the vision tower for one token of the decoder.
        patch_values: numbers in a patch: colours x frames x pixels.
        counted: False where the parameters are taken from the weight files, and the layer sizes are estimates.
    """

    parameters: int
    language_linear: tuple[tuple[int, int], ...]
    layer: int
    embedding: int
    tied: bool
    hidden: int
    layers: int
    intermediate: int
    key_values: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_intermediate: int
    patches: int
    patch_values: int
    counted: bool = True

    @property
    def heads_and_embeddings(self) -> int:
        return self.embedding * (1 if self.tied else 2)

    @staticmethod
    def read(config: Mapping[str, Any], folder: Path | None = None) -> "ModelSize":
        """The sizes in a `config.json`.

        Raises:
            NotKnown: a field that every decoder has is missing.
        """
        text = config.get("text_config", config)
        try:
            hidden, layers, vocabulary = text["hidden_size"], text["num_hidden_layers"], text["vocab_size"]
            heads, intermediate = text["num_attention_heads"], text["intermediate_size"]
        except KeyError as missing:
            raise NotKnown(
                f"the model's config.json has no {missing.args[0]}: its memory cannot be estimated"
            ) from missing
        key_heads = text.get("num_key_value_heads") or heads
        width = text.get("head_dim") or hidden // heads
        linear = (
            (hidden, heads * width),
            (hidden, key_heads * width),
            (hidden, key_heads * width),
            (heads * width, hidden),
            (hidden, intermediate),
            (hidden, intermediate),
            (intermediate, hidden),
        )
        layer = (
            sum(i * o for i, o in linear) + 2 * hidden + (2 * width if "qwen3" in config.get("model_type", "") else 0)
        )
        embedding, tied = vocabulary * hidden, bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings")))
        vision = config.get("vision_config") or {}
        merge, frames, patch = (
            vision.get(key, default)
            for key, default in (("spatial_merge_size", 2), ("temporal_patch_size", 2), ("patch_size", 16))
        )
        counted = config.get("model_type") == "qwen3_vl"
        if counted:
            parameters = embedding * (1 if tied else 2) + layers * layer + hidden + _vision_parameters(vision)
        else:
            parameters = _in_files(folder)
        if not parameters:
            raise NotKnown(f"a {config.get('model_type')} without weight files here: its size cannot be told")
        return ModelSize(
            parameters, linear, layer, embedding, tied, hidden, layers, intermediate, 2 * key_heads * width, vocabulary,
            vision.get("hidden_size", 0), vision.get("depth", 0), vision.get("intermediate_size", 0),
            merge**2, 3 * frames * patch**2, counted,
        )  # fmt: skip

    def lora(self, rank: int) -> int:
        """Parameters of LoRA adapters on every linear layer of the decoder."""
        return self.layers * sum(rank * (i + o) for i, o in self.language_linear)


def find_config(model: str) -> dict[str, Any]:
    """The `config.json` of a model folder, or of a published model that is named.

    Raises:
        NotKnown: neither.
    """
    path = Path(model) / "config.json"
    if path.is_file():
        try:
            return json.loads(path.read_text())
        except json.JSONDecodeError as broken:
            raise NotKnown(f"{path} is not JSON: {broken}") from broken
    for name, sizes in PUBLISHED.items():
        if model.rsplit("/", 1)[-1].startswith(name + "-"):
            return _published(*sizes)
    raise NotKnown(
        f"the sizes of sv6d.model={model} are not known: no config.json there, and no published model that we know"
    )


def _published(hidden, layers, heads, intermediate, tied, vision_hidden, depth, vision_intermediate) -> dict[str, Any]:
    text = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": intermediate,
        "vocab_size": 151936,
    }
    vision = {
        "hidden_size": vision_hidden,
        "depth": depth,
        "intermediate_size": vision_intermediate,
        "out_hidden_size": hidden,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [0, 0, 0],
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    return {"model_type": "qwen3_vl", "tie_word_embeddings": tied, "text_config": text, "vision_config": vision}


def _vision_parameters(vision: Mapping[str, Any]) -> int:
    """Of Qwen3-VL's tower: patch embedding, positions, blocks, the merger and the DeepStack mergers."""
    if not vision:
        return 0
    hidden, inner = vision["hidden_size"], vision["intermediate_size"]
    pixels = vision.get("in_channels", 3) * vision.get("temporal_patch_size", 2) * vision.get("patch_size", 16) ** 2
    merged = hidden * vision.get("spatial_merge_size", 2) ** 2
    block = 4 * hidden + 4 * hidden**2 + 4 * hidden + 2 * hidden * inner + hidden + inner
    projection = (
        merged**2 + merged + merged * vision.get("out_hidden_size", hidden) + vision.get("out_hidden_size", hidden)
    )
    return (
        pixels * hidden
        + hidden
        + vision.get("num_position_embeddings", 0) * hidden
        + vision["depth"] * block
        + projection
        + 2 * hidden
        + len(vision.get("deepstack_visual_indexes", ())) * (projection + 2 * merged)
    )


def _in_files(folder: Path | None) -> int:
    """Parameters in a folder's weight files, by their headers; 0 where there are none."""
    total = 0
    for path in folder.glob("*.safetensors") if folder else ():
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                count = 1
                for length in tensor["shape"]:
                    count *= length
                total += count
    return total
