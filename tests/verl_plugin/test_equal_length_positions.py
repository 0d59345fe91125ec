"""A batch whose samples have the same length keeps its multimodal position ids (4 rows a sample)."""

import pytest
import torch
from sv6d.verl_plugin.mends import equal_length_positions


def positions(*lengths):
    """One (4, length) tensor a sample, every number different."""
    return [torch.arange(4 * n).reshape(4, n) + 100 * i for i, n in enumerate(lengths)]


def travelled(module, samples):
    """A batch as it arrives at a worker: torch's nested tensor of the samples, then verl's fix."""
    batch = module.get_tensordict({"position_ids": torch.nested.as_nested_tensor(samples, layout=torch.jagged)})
    module.maybe_fix_3d_position_ids(batch)
    return batch["position_ids"]


def test_verl_cannot_unbind_a_batch_of_equal_lengths(unmended):
    module = unmended("verl.utils.tensordict_utils")
    with pytest.raises(RuntimeError):
        travelled(module, positions(5, 5)).unbind()


@pytest.mark.parametrize("lengths", [(5, 5), (7,), (4,), (3, 3, 3), (8, 8)])
def test_the_mend_gives_each_sample_its_positions(unmended, lengths):
    module = unmended("verl.utils.tensordict_utils")
    assert equal_length_positions.needed(module)
    equal_length_positions.apply(module)
    samples = positions(*lengths)
    for got, expected in zip(travelled(module, samples).unbind(), samples, strict=True):
        assert torch.equal(got, expected)


def test_batches_of_unequal_lengths_are_as_before(unmended):
    module = unmended("verl.utils.tensordict_utils")
    equal_length_positions.apply(module)
    samples = positions(4, 6)
    nested = module.nested_tensor_from_tensor_list(samples, ragged_idx=2)
    batch = module.get_tensordict({"position_ids": nested})
    module.maybe_fix_3d_position_ids(batch)
    for got, expected in zip(batch["position_ids"].unbind(), samples, strict=True):
        assert torch.equal(got, expected)


def test_batches_without_positions_pass(unmended):
    module = unmended("verl.utils.tensordict_utils")
    equal_length_positions.apply(module)
    module.maybe_fix_3d_position_ids(module.get_tensordict({"x": torch.zeros(2, 3)}))
