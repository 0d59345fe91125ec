"""What our trainers refuse at their start."""

import pytest
from omegaconf import OmegaConf
from sv6d.verl_plugin.trainers import require_engine


def settings(pixels, strategy):
    return OmegaConf.create(
        {"data": {"mixture": {"pixels": pixels}}, "actor_rollout_ref": {"actor": {"strategy": strategy}}}
    )


def test_pixels_as_bytes_need_the_engine_that_scales_them():
    with pytest.raises(
        ValueError, match=r"strategy=megatron .* set data\.mixture\.pixels=float32, or the strategy to fsdp or"
    ):
        require_engine(settings("uint8", "megatron"))
    for pixels, strategy in (("uint8", "fsdp2"), ("uint8", "fsdp"), ("float32", "megatron")):
        require_engine(settings(pixels, strategy))
