"""verl's own engines on a CPU, without a trainer around them: two ranks take the gradient that one rank takes, on a batch that mixes
texts, images and videos; and the reference policy starts."""

import gradients_job
import pytest
import torch

BOUND = 1e-5  # of each tensor's largest gradient; seen: 1.4e-7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from sv6d.recipes.demo.model import build_model

    folder = tmp_path_factory.mktemp("gradients")
    gradients_job.write_media(folder)
    build_model([([{"role": "user", "content": "<video>" + gradients_job.QUESTION}], "0.0")], folder / "model")
    return folder


@pytest.mark.slow
def test_two_ranks_and_one_take_the_same_first_gradient(folder, ranks):
    taken = {}
    for number in (1, 2):
        ranks(number, gradients_job.first_gradients, str(folder), number)
        taken[number] = torch.load(folder / f"gradients-{number}.pt")
    one, two = taken[1], taken[2]
    assert one.keys() == two.keys() and len(one) == 74  # every tensor of the model
    for name, gradient in one.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(two[name], gradient, rtol=0, atol=BOUND * float(gradient.abs().max()), msg=name)


@pytest.mark.slow
def test_the_reference_policy_starts_on_a_cpu_with_the_mend_alone(folder, ranks):
    with pytest.raises(Exception, match="Cannot access accelerator device when none is available"):
        ranks(1, gradients_job.reference_policy, str(folder), False)
    ranks(1, gradients_job.reference_policy, str(folder), True)
