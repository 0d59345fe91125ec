"""Averaging: the numbers, what is kept, what is refused, and that no half-written output is ever left."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sv6d.sft import average as module
from sv6d.sft.average import average
from sv6d.sft.average_cli import command
from sv6d.sft.checkpoints import AverageError, last_checkpoints


def checkpoint(folder, tensors, shards=1):
    """A model folder with the tensors dealt over safetensors shards, and files that are no weights."""
    folder.mkdir(parents=True)
    names = sorted(tensors)
    for shard in range(shards):
        name = "model.safetensors" if shards == 1 else f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        save_file({key: tensors[key] for key in names[shard::shards]}, folder / name, metadata={"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "toy"}')
    (folder / "tokenizer.json").write_text(folder.name)
    return folder


def tensors(value):
    """A matrix in float32, one in bfloat16, a scalar, an empty tensor and a buffer of whole numbers."""
    return {
        "matrix": torch.full((3, 2), float(value)),
        "half": torch.full((4,), float(value)).bfloat16(),
        "scalar": torch.tensor(float(value)),
        "empty": torch.zeros(0, 4),
        "index": torch.arange(3),
    }


def test_the_mean_of_each_tensor_in_its_own_dtype(tmp_path):
    folders = [checkpoint(tmp_path / str(value), tensors(value)) for value in (1, 2, 6)]
    mean = load_file(average(folders, tmp_path / "out") / "model.safetensors")
    assert torch.equal(mean["matrix"], torch.full((3, 2), 3.0))  # (1 + 2 + 6) / 3
    assert torch.equal(mean["half"], torch.full((4,), 3.0, dtype=torch.bfloat16))
    assert mean["scalar"] == 3.0 and mean["empty"].shape == (0, 4)
    assert torch.equal(mean["index"], torch.arange(3))


def test_bfloat16_is_summed_in_float32(tmp_path):
    # 256 + 1 is not a bfloat16 (8 bits of mantissa): summed in bfloat16, 256 + 1 + 1 would stay 256 and the mean be 85.5.
    values = [torch.full((1,), value).bfloat16() for value in (256.0, 1.0, 1.0)]
    folders = [checkpoint(tmp_path / str(i), {"x": value}) for i, value in enumerate(values)]
    mean = load_file(average(folders, tmp_path / "out") / "model.safetensors")["x"]
    assert mean.item() == 86.0


@settings(deadline=None)
@given(
    values=st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6), min_size=2, max_size=5),
    size=st.sampled_from([8, 16, 64]),
)
def test_the_mean_does_not_depend_on_the_slices(tmp_path_factory, values, size):
    folder = tmp_path_factory.mktemp("mean")
    matrices = [np.array(value, np.float32).reshape(3, 2) for value in values]
    folders = [checkpoint(folder / str(i), {"x": torch.from_numpy(m)}) for i, m in enumerate(matrices)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE_BYTES", size)
        mean = load_file(average(folders, folder / "out") / "model.safetensors")["x"].numpy()
    np.testing.assert_allclose(mean, np.mean(matrices, 0, dtype=np.float64), rtol=1e-5, atol=1e-3)
    assert (mean >= np.min(matrices, 0) - 1e-3).all() and (mean <= np.max(matrices, 0) + 1e-3).all()


def test_files_and_shards_are_those_of_the_last_checkpoint(tmp_path):
    index = {"weight_map": {"matrix": "model-00001-of-00002.safetensors"}}
    first, last = checkpoint(tmp_path / "1", tensors(1)), checkpoint(tmp_path / "3", tensors(3), shards=2)
    (last / "model.safetensors.index.json").write_text(json.dumps(index))
    out = average([first, last], tmp_path / "out")
    names = {path.name for path in last.iterdir()} | {"sv6d_average.json"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "tokenizer.json").read_text() == "3"
    assert json.loads((out / "model.safetensors.index.json").read_text()) == index
    assert all((out / name).stat().st_size == (last / name).stat().st_size for name in names if "-of-" in name)
    shards = [load_file(path) for path in sorted(out.glob("*.safetensors"))]
    assert torch.equal({**shards[0], **shards[1]}["matrix"], torch.full((3, 2), 2.0))
    assert json.loads((out / "sv6d_average.json").read_text())["ingredients"] == [str(first), str(last)]


def test_checkpoints_of_other_models_are_refused_with_what_differs(tmp_path):
    mine = checkpoint(tmp_path / "mine", tensors(1))
    other = tensors(2) | {"matrix": torch.zeros(2, 3), "half": torch.zeros(4), "more": torch.zeros(1)}
    other.pop("scalar")
    with pytest.raises(AverageError) as error:
        average([checkpoint(tmp_path / "other", other), mine], tmp_path / "out")
    message = error.value.message
    assert "matrix: F32[2, 3] in" in message and "F32[3, 2] in" in message
    assert "half: F32[4]" in message and "more: F32[1]" in message and "scalar: absent" in message
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize(
    "name", ["base_model.model.q_proj.lora_A.default.weight", "base_model.model.q_proj.base_layer.weight"]
)
def test_adapters_are_no_whole_model(tmp_path, name):
    """A mean of A and one of B would be another product; and transformers would begin with random weights in their place."""
    folders = [checkpoint(tmp_path / str(i), {name: torch.ones(2)}) for i in range(2)]
    with pytest.raises(
        AverageError, match=r"0 holds LoRA's adapters beside the base weights \(base_model.model.q_proj"
    ):
        average(folders, tmp_path / "out")


def test_whole_numbers_that_differ_are_refused(tmp_path):
    folders = [checkpoint(tmp_path / str(i), {"index": torch.arange(3) + i}) for i in range(2)]
    with pytest.raises(AverageError, match=r"index holds torch\.int64 and differs"):
        average(folders, tmp_path / "out")


def test_a_file_cut_short_is_refused(tmp_path):
    folders = [checkpoint(tmp_path / str(i), tensors(i)) for i in range(2)]
    whole = (folders[0] / "model.safetensors").read_bytes()
    (folders[0] / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(AverageError, match=r"0/model.safetensors has .* bytes and its header describes"):
        average(folders, tmp_path / "out")


def test_an_earlier_average_is_replaced_and_nothing_else(tmp_path):
    folders = [checkpoint(tmp_path / str(value), tensors(value)) for value in (1, 2, 6)]
    average(folders[:2], tmp_path / "out")
    average(folders, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")["scalar"] == 3.0
    with pytest.raises(AverageError, match="exists and is no average of ours"):
        average(folders, folders[0])
    assert load_file(folders[0] / "model.safetensors")["scalar"] == 1.0


def test_a_failure_leaves_the_earlier_output_and_nothing_else(tmp_path, monkeypatch):
    folders = [checkpoint(tmp_path / str(value), tensors(value)) for value in (1, 3)]
    average(folders, tmp_path / "out")
    before = sorted(tmp_path.iterdir())

    def stop(written, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        average([*folders, folders[0]], tmp_path / "out", stop)
    assert sorted(tmp_path.iterdir()) == before
    assert load_file(tmp_path / "out" / "model.safetensors")["scalar"] == 2.0


def test_a_killed_run_leaves_no_output(tmp_path):
    folders = [checkpoint(tmp_path / str(value), tensors(value)) for value in (1, 3)]
    program = (
        "import sys, time; from sv6d.sft.average import average\n"
        "average(sys.argv[1:3], sys.argv[3], lambda *_: (print('writing', flush=True), time.sleep(60)))"
    )
    arguments = [sys.executable, "-c", program, *map(str, folders), str(tmp_path / "out")]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out").exists()


def run_folder(tmp_path, steps, latest):
    for step in steps:
        checkpoint(tmp_path / "checkpoints" / f"global_step_{step}" / "huggingface", tensors(step))
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text(str(latest))
    return tmp_path


def test_the_last_complete_checkpoints_of_a_run(tmp_path):
    run = run_folder(tmp_path, [5, 10, 100, 105], latest=100)  # 105 was being written when the run was cut
    assert [path.name for path in last_checkpoints(run, 2)] == ["global_step_10", "global_step_100"]
    with pytest.raises(
        AverageError, match=r"has 3 checkpoints \(global_step_5, global_step_10, global_step_100\) and 4"
    ):
        last_checkpoints(run, 4)


def test_the_command_averages_a_run_or_named_checkpoints(tmp_path):
    run = run_folder(tmp_path / "run", [1, 2, 6], latest=6)
    result = CliRunner().invoke(command, [str(run), "--last", "3", "-o", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    assert load_file(tmp_path / "a" / "model.safetensors")["scalar"] == 3.0
    named = [str(run / "checkpoints" / f"global_step_{step}") for step in (2, 6)]
    result = CliRunner().invoke(command, [*named, "-o", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert load_file(tmp_path / "b" / "model.safetensors")["scalar"] == 4.0


def test_how_much_there_is_to_write_is_known_from_the_first_byte(tmp_path):
    folders = [checkpoint(tmp_path / str(value), tensors(value), shards=2) for value in (1, 3)]
    told = []
    out = average(folders, tmp_path / "out", lambda written, total: told.append((written, total)))
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    assert {total for _, total in told} == {size} and sum(written for written, _ in told) == size


def test_a_merger_is_told_of_before_it_runs(tmp_path, monkeypatch):
    def merge(shards, target):
        assert told == [f"merging the shards of {shards}"]
        return checkpoint(target, tensors(1))

    monkeypatch.setattr("sv6d.sft.checkpoints.merge_shards", merge)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "model_world_size_1_rank_0.pt").touch()
    told = []
    average([tmp_path / "shards", checkpoint(tmp_path / "whole", tensors(3))], tmp_path / "out", say=told.append)


@pytest.mark.parametrize("last", ["0", "-1", "1"])
def test_a_mean_is_of_two_checkpoints_at_least(tmp_path, last):
    """0 would be all, -1 all but the oldest."""
    run = run_folder(tmp_path / "run", [1, 2, 6], latest=6)
    result = CliRunner().invoke(command, [str(run), "--last", last, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2 and "x>=2" in result.output


@pytest.mark.parametrize("inside", ["", "huggingface"])
def test_a_checkpoint_in_place_of_a_run_is_told_as_such(tmp_path, inside):
    run = run_folder(tmp_path / "run", [1, 2], latest=2)
    one = run / "checkpoints" / "global_step_2" / inside
    result = CliRunner().invoke(command, [str(one), "-o", str(tmp_path / "out")])
    assert (
        result.exit_code == 1 and "is one checkpoint, and averaging needs two: give the run's folder" in result.output
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("data: {mixture: {taxonomy: nowhere.yaml}}", "nowhere.yaml"),
        ("data: {}", "holds no .parquet or .jsonl file"),
        ("trainer: {}", "config.yaml is no configuration of a run, it has no block `data`"),
        (None, "give --config RUN/config.yaml"),
    ],
)
def test_what_validation_cannot_use_is_told_before_the_averaging(tmp_path, config, words):
    folders = [str(checkpoint(tmp_path / str(value), tensors(value))) for value in (1, 3)]
    (tmp_path / "rows").mkdir()
    options = []
    if config is not None:
        (tmp_path / "rows" / "config.yaml").write_text(config)
        options = ["--config", str(tmp_path / "rows" / "config.yaml")]
    result = CliRunner().invoke(
        command, [*folders, "-o", str(tmp_path / "out"), "--validate", str(tmp_path / "rows"), *options]
    )
    assert result.exit_code == 1 and words in result.output
    assert not (tmp_path / "out").exists()


def test_a_weighted_mean(tmp_path):
    folders = [checkpoint(tmp_path / str(value), tensors(value)) for value in (1, 2, 6)]
    out = average(folders, tmp_path / "out", weights=[2, 0, 6])
    mean = load_file(out / "model.safetensors")
    assert torch.equal(mean["matrix"], torch.full((3, 2), 4.75))  # (1/4) 1 + (3/4) 6
    assert torch.equal(mean["half"], torch.full((4,), 4.75, dtype=torch.bfloat16))
    assert torch.equal(mean["index"], torch.arange(3))
    assert json.loads((out / "sv6d_average.json").read_text())["shares"] == [0.25, 0.0, 0.75]


def test_an_exponential_mean_forgets_by_half(tmp_path):
    run = run_folder(tmp_path / "run", [1, 2, 6], latest=6)
    result = CliRunner().invoke(command, [str(run), "--decay", "0.5", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert load_file(tmp_path / "out" / "model.safetensors")["scalar"].item() == pytest.approx(
        29 / 7
    )  # (1 + 2*2 + 4*6) / 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--weights", "1,2"], "3 checkpoints take 3 weights, got 2"),
        (["--weights", "1,-2,3"], "weights are numbers from 0 up"),
        (["--weights", "0,0,0"], "not all of them 0"),
        (["--weights", "1,nan,3"], "weights are numbers from 0 up"),
        (["--weights", "1;2;3"], "--weights 1;2;3: numbers with commas between them"),
        (["--weights", "1,2,3", "--decay", "0.5"], "--decay and --weights both say what checkpoints weigh"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, options, words):
    run = run_folder(tmp_path / "run", [1, 2, 6], latest=6)
    result = CliRunner().invoke(command, [str(run), "-o", str(tmp_path / "out"), *options])
    assert result.exit_code == 1 and words in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_says_what_is_missing(tmp_path):
    (tmp_path / "empty").mkdir()
    whole = checkpoint(tmp_path / "whole", tensors(1))
    result = CliRunner().invoke(command, [str(tmp_path / "empty"), str(whole), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "holds no safetensors and no FSDP shards" in result.output
