"""verl 0.9.1, `utils/tensordict_utils.py:910` (`maybe_fix_3d_position_ids`), any device: a batch whose samples all have
the same length dies.

torch then takes the four rows of the multimodal position ids for the ragged dimension, verl only relabels the dimension,
and `unbind()` fails with `split_with_sizes expects split_sizes to sum exactly to ... [4, 4, ...]`.
The mend rebuilds the nested tensor with the length as its ragged dimension.
"""

import inspect

from ..after_import import replace


def needed(tensordict_utils) -> bool:
    """Not once verl does more than relabel the dimension."""
    source = inspect.getsource(tensordict_utils.maybe_fix_3d_position_ids)
    return "_ragged_idx = 2" in source and "nested_tensor_from" not in source


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
