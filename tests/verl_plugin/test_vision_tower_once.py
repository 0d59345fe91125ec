"""A micro-batch of images and videos calls the vision tower once, with the same features and gradients as two calls."""

from types import SimpleNamespace

import pytest
import torch
from sv6d.verl_plugin.mends import vision_tower_once

IMAGE, VIDEO = 7, 8
PATCH = 6  # numbers a patch


class Tower(torch.nn.Module):
    """Merges 2 x 2 patches into a feature of 4 numbers, with one deepstack layer; counts its calls."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.project, self.deep = torch.nn.Linear(4 * PATCH, 4), torch.nn.Linear(4 * PATCH, 4)
        self.calls = 0

    def forward(self, patches, grid_thw):
        self.calls += 1
        assert len(patches) == int(grid_thw.prod(-1).sum())
        merged = patches.reshape(-1, 4 * PATCH)
        return self.project(merged), [self.deep(merged)]


class Model:
    def __init__(self):
        torch.manual_seed(1)
        self.visual, self.embedding = Tower(), torch.nn.Embedding(10, 4)
        vision = SimpleNamespace(spatial_merge_size=2, in_channels=1, temporal_patch_size=1, patch_size=1)
        self.config = SimpleNamespace(image_token_id=IMAGE, video_token_id=VIDEO, vision_config=vision)

    def get_input_embeddings(self):
        return self.embedding


def batch():
    """One sequence: an image of 4 x 4 patches (4 tokens), a clip of 2 frames of 2 x 2 patches (2 tokens), one image token
    run after the clip of 2 x 2 patches (1 token)."""
    torch.manual_seed(2)
    return dict(
        input_ids=torch.tensor([[1, IMAGE, IMAGE, IMAGE, IMAGE, 2, VIDEO, 3, VIDEO, IMAGE, 4]]),
        pixel_values=torch.randn(20, PATCH),
        image_grid_thw=torch.tensor([[1, 4, 4], [1, 2, 2]]),
        pixel_values_videos=torch.randn(8, PATCH),
        video_grid_thw=torch.tensor([[2, 2, 2]]),
    )


def embed(module, inputs):
    model = Model()
    out = module._get_input_embeds(model, **inputs)
    (
        out["inputs_embeds"].square().sum() + sum(layer.square().sum() for layer in out["deepstack_visual_embeds"])
    ).backward()
    return model.visual, out


def without(inputs, *names):
    return {key: value for key, value in inputs.items() if key not in names}


def test_verl_calls_twice_and_the_mend_once_with_equal_results(unmended):
    module = unmended("verl.models.transformers.qwen3_vl")
    tower, expected = embed(module, batch())
    assert tower.calls == 2

    assert vision_tower_once.needed(module)
    vision_tower_once.apply(module)
    mended_tower, got = embed(module, batch())
    assert mended_tower.calls == 1
    torch.testing.assert_close(got["inputs_embeds"], expected["inputs_embeds"])
    assert torch.equal(got["visual_pos_masks"], expected["visual_pos_masks"])
    torch.testing.assert_close(got["deepstack_visual_embeds"], expected["deepstack_visual_embeds"])
    for mended, plain in zip(mended_tower.parameters(), tower.parameters(), strict=True):
        torch.testing.assert_close(mended.grad, plain.grad)


@pytest.mark.parametrize("kind", ["pixel_values", "pixel_values_videos"])
def test_one_kind_alone_is_as_before(unmended, kind):
    inputs = batch()
    other = "pixel_values_videos" if kind == "pixel_values" else "pixel_values"
    inputs["input_ids"][inputs["input_ids"] == (VIDEO if kind == "pixel_values" else IMAGE)] = 5
    inputs = without(inputs, other)
    module = unmended("verl.models.transformers.qwen3_vl")
    _, expected = embed(module, inputs)
    vision_tower_once.apply(module)
    tower, got = embed(module, inputs)
    assert tower.calls == 1
    assert torch.equal(got["inputs_embeds"], expected["inputs_embeds"])


def test_a_wrong_number_of_tokens_is_still_an_error(unmended):
    module = unmended("verl.models.transformers.qwen3_vl")
    vision_tower_once.apply(module)
    inputs = batch()
    inputs["input_ids"][0, 0] = VIDEO
    with pytest.raises(ValueError, match="tokens: 3, features 2"):
        embed(module, inputs)


def _sharded_step(rank, mended):
    """Rank 0 holds an image, rank 1 an image and a clip; the tower is sharded over both."""
    import verl  # noqa: F401  (the plug-in mends the module below)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from verl.models.transformers.qwen3_vl import _get_input_embeds

    model, inputs = Model(), batch()
    if rank == 0:
        inputs["input_ids"][inputs["input_ids"] == VIDEO] = 5
        inputs = without(inputs, "pixel_values_videos", "video_grid_thw")
    mesh = init_device_mesh("cpu", (2,))
    for part in (model.visual.project, model.visual.deep, model.visual):  # layers give their weights back after use
        fully_shard(part, mesh=mesh)
    out = (_get_input_embeds if mended else _get_input_embeds.__sv6d_original__)(model, **inputs)
    (
        out["inputs_embeds"].square().sum() + sum(layer.square().sum() for layer in out["deepstack_visual_embeds"])
    ).backward()
    gradient = model.visual.project.weight.grad.full_tensor()
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_two_ranks_with_different_media_finish_a_step(two_ranks):
    two_ranks(_sharded_step, True)


def test_without_the_mend_the_ranks_fall_out_of_step(two_ranks):
    with pytest.raises(Exception, match=r"(?i)mismatch|timed out|timeout|closed|terminated"):
        two_ranks(_sharded_step, False, seconds=5)
