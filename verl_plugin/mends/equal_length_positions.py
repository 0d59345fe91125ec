"""verl 0.9.1, `utils/tensordict_utils.py:910` (`maybe_fix_3d_position_ids`), any device: a batch whose samples all have
the same length dies.

torch then takes the four rows of the multimodal position ids for the ragged dimension, verl only relabels the dimension,
and `unbind()` fails with `split_with_sizes expects split_sizes to sum exactly to ... [4, 4, ...]`.
The mend rebuilds the nested tensor with the length as its ragged dimension.
"""

import torch

from ..after_import import replace


def needed(tensordict_utils) -> bool:
    """Tries two equally long samples: not once they come back as they were."""
    samples = [torch.arange(8).view(4, 2), torch.arange(8, 16).view(4, 2)]
    nested = torch.nested.as_nested_tensor(samples, layout=torch.jagged)
    batch = tensordict_utils.get_tensordict({"position_ids": nested})
    tensordict_utils.maybe_fix_3d_position_ids(batch)
    try:
        found = batch["position_ids"].unbind()
    except RuntimeError:
        return True
    return not all(torch.equal(got, expected) for got, expected in zip(found, samples, strict=True))


def apply(tensordict_utils) -> None:
    def make(original):
        def maybe_fix_3d_position_ids(data):
            original(data)
            positions = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118 (a TensorDict)
            if positions is None or not positions.is_nested or positions.dim() != 3:
                return
            values, rows = positions.values(), positions.offsets().diff().tolist()
            # Sound values are (4, sum of lengths); these are (samples * 4, length), with offsets that count rows.
            if values.shape[0] == sum(rows) and (values.shape[0] > 4 or len(rows) == 1):
                samples = list(values.split(rows))
                data["position_ids"] = tensordict_utils.nested_tensor_from_tensor_list(samples, ragged_idx=2)

        return maybe_fix_3d_position_ids

    replace(tensordict_utils, "maybe_fix_3d_position_ids", make)
