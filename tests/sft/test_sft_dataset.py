"""SFTDataset: what a training item holds, in which order items come, and what happens to rows that cannot be used."""

import json
from collections import Counter
from pathlib import Path

import pytest
import sv6d.schema
import torch
from omegaconf import OmegaConf
from sv6d.data_mixers.mixture import Mixture
from sv6d.data_mixers.rows import RowError, write_rows
from sv6d.sft.rows import rows_by_task
from sv6d.sft.verl_dataset import Cache, SFTDataset, check_end_of_turn


@pytest.fixture
def build(data, tokenizer, processor):
    """Build a dataset over a folder of rows; keyword arguments set keys of the `data` block, dotted keys with `__`."""

    def make(folder=None, max_samples=-1, files=None, **settings):
        config = OmegaConf.create({"train_files": str(folder or data / "sft"), "max_length": 400, "mixture": {}})
        for key, value in settings.items():
            OmegaConf.update(config, key.replace("__", "."), value)
        return SFTDataset(files or config.train_files, tokenizer, config, processor, max_samples)

    return make


def answer(item, tokenizer):
    return tokenizer.decode(item["input_ids"][item["loss_mask"].bool()])


def test_the_loss_counts_the_answer_and_its_end(build, tokenizer, rows):
    item = build()[0]
    assert answer(item, tokenizer) in {row["messages"][-1]["content"] + "<|im_end|>" for row in rows}
    counted = item["loss_mask"].nonzero().flatten()
    assert counted.tolist() == list(range(counted[0], len(item["input_ids"])))  # one run of tokens, at the end
    assert tokenizer.decode(item["input_ids"][: counted[0]]).endswith("<|im_start|>assistant\n")


def test_positions_have_the_four_rows_of_mrope(build):
    item = build()[0]
    assert item["position_ids"].shape == (4, len(item["input_ids"]))


def test_items_come_in_the_order_of_the_mixture(build, rows, tokenizer):
    dataset = build(mixture__length=24, mixture__seed=5)
    assert len(dataset) == 24
    tasks = list(dict.fromkeys(row["data_source"] for row in rows))
    mixture = Mixture(dict.fromkeys(tasks, 4), None, 5)
    for position in range(24):
        task, index, _ = mixture.locate(position)
        expected = [row for row in rows if row["data_source"] == task][index]["messages"][-1]["content"]
        assert answer(dataset[position], tokenizer) == expected + "<|im_end|>"


def test_weights_set_the_shares(build):
    tasks = {"cut_point_detection": 1, "ocr_regular": 4, "temporal_action_localization": 1}
    dataset = build(mixture__length=12, mixture__weights=tasks)
    images = ["pixel_values" in dataset[i]["multi_modal_inputs"] for i in range(12)]
    assert Counter(images) == {True: 8, False: 4}  # 4 of 6 draws are OCR


def test_other_files_keep_their_order(build, data, rows, tokenizer):
    files = [str(data / "sft" / "ocr_regular.parquet")]
    dataset = build(files=files, mixture__length=24)
    assert [answer(dataset[i], tokenizer) for i in range(len(dataset))] == [f"word{i}<|im_end|>" for i in range(4)]


def test_max_samples_are_spread_over_the_tasks(build):
    assert {task: len(own) for task, own in build(max_samples=6).rows.items()} == {
        "cut_point_detection": 2,
        "ocr_regular": 2,
        "temporal_action_localization": 2,
    }


def test_a_batch_of_text_image_and_video_is_collated(build, tokenizer):
    from verl.utils.dataset.dataset_utils import SFTTensorCollator
    from verl.utils.model import extract_multi_modal_inputs

    dataset = build()
    text = dataset.prompter.prompt
    row = {"prompt": [{"role": "user", "content": "q"}], "images": [], "videos": []}
    assert text(row)[1] == {}
    plain = dataset.encode({**row, "messages": [{"role": "assistant", "content": "a"}]})
    batch = SFTTensorCollator("no_padding")([plain, *(dataset[i] for i in range(3))])
    media = extract_multi_modal_inputs(batch["multi_modal_inputs"])
    assert {"pixel_values", "pixel_values_videos"} <= set(media)
    assert batch["input_ids"].offsets().diff()[0] == len(plain["input_ids"])


def test_items_are_decoded_once_while_they_fit(build, monkeypatch):
    dataset = build()
    calls = []
    encode = dataset.encode
    monkeypatch.setattr(dataset, "encode", lambda row: calls.append(1) or encode(row))
    first = [dataset[i] for i in range(12)]
    again = [dataset[i] for i in range(12)]
    assert len(calls) == 12
    assert all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in zip(first, again, strict=True))


def test_the_cache_keeps_what_came_first_and_stays_in_its_bound():
    cache = Cache(capacity=100)
    for key in range(5):
        cache.put(key, {"x": torch.zeros(10, dtype=torch.float32), "multi_modal_inputs": {}})  # 40 bytes each
    assert [key for key in range(5) if cache.get(key)] == [0, 1]
    assert cache.used == 80


def broken(rows, folder, count, text="not a video"):
    """The cut-point rows in a folder of their own, with the clip of the first `count` replaced by a text file."""
    clip = folder / "broken.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    clip.write_text(text)
    own = [row for row in rows if row["data_source"] == "cut_point_detection"]
    for number, row in enumerate(own):
        videos = [{**row["videos"][0], "video": str(clip)}] if number < count else row["videos"]
        own[number] = {**row, "videos": videos}
    write_rows(own, folder / "sft" / "cut_point_detection.parquet")
    return folder / "sft"


def test_a_row_that_does_not_decode_is_replaced_counted_and_listed(build, rows, tmp_path, tokenizer):
    dataset = build(broken(rows, tmp_path, 1), mixture__length=8, mixture__skipped_rows=str(tmp_path))
    answers = Counter(answer(dataset[i], tokenizer) for i in range(8))
    assert sorted(answers.values()) == [2, 2, 4]  # rows 1 to 3 twice, and row 1 for row 0 in both rounds
    assert len(dataset.skipped) == 1
    (line,) = (tmp_path / "skipped_rows.jsonl").read_text().splitlines()
    assert json.loads(line)["task"] == "cut_point_detection" and json.loads(line)["index"] == 0


def test_a_task_without_a_usable_row_ends_the_run_with_the_reason(build, rows, tmp_path):
    dataset = build(broken(rows, tmp_path, 4), mixture__length=4)
    with pytest.raises(RowError, match="cut_point_detection: not one of its 4 rows"):
        dataset[0]


def test_a_row_that_is_too_long_is_skipped_not_cut(build):
    whole = build(mixture__length=12)
    lengths = {position: len(whole[position]["input_ids"]) for position in range(12)}
    longest = max(lengths.values())  # some rows have a patch of frames more than others of their task
    bounded = build(mixture__length=12, max_length=longest - 1)
    kept = [len(bounded[position]["input_ids"]) for position in range(12)]
    assert len(bounded.skipped) == list(lengths.values()).count(longest)
    assert max(kept) < longest and set(kept) <= set(lengths.values())
    assert f"{longest} tokens are more than data.max_length={longest - 1}" in bounded.skipped.reasons(
        "cut_point_detection"
    )


def test_a_row_without_an_answer_is_skipped(build, rows, tmp_path):
    own = [row for row in rows if row["data_source"] == "ocr_regular"]
    write_rows([{**own[0], "messages": own[0]["prompt"]}, *own[1:]], tmp_path / "ocr.parquet")
    dataset = build(tmp_path, mixture__length=4)
    assert len([dataset[i] for i in range(4)]) == 4
    assert "row 0: RowError: its `messages` do not end with an assistant turn" in dataset.skipped.reasons("ocr_regular")


def test_a_broken_row_is_skipped_unless_its_tags_are_those_of_ones_own_taxonomy(build, rows, tmp_path):
    own = [row for row in rows if row["data_source"] == "cut_point_detection"]
    truth = own[0]["reward_model"]["ground_truth"].replace("hard cut", "harsh cut")
    own[0] = {**own[0], "reward_model": {"style": "rule", "ground_truth": truth}}
    write_rows(own, tmp_path / "sft" / "cut_point_detection.parquet")
    packaged = (Path(sv6d.schema.__file__).parent / "taxonomy.yaml").read_text()
    (tmp_path / "tags.yaml").write_text(packaged.replace("hard cut", "harsh cut"))

    ours = build(tmp_path / "sft", mixture__length=4)
    assert len([ours[i] for i in range(4)]) == 4
    assert "harsh cut" in ours.skipped.reasons("cut_point_detection") and len(ours.skipped) == 1

    theirs = build(tmp_path / "sft", mixture__length=4, mixture__taxonomy=str(tmp_path / "tags.yaml"))
    for position in range(4):
        theirs[position]
    assert "row 0" not in theirs.skipped.reasons("cut_point_detection")


def test_a_file_without_rows_is_none(build, rows, data, tmp_path):
    """As a shard of synthesis whose documents were all bad."""
    write_rows([], tmp_path / "a.parquet")
    write_rows([row for row in rows if row["data_source"] == "ocr_regular"], tmp_path / "b.parquet")
    assert {task: len(own) for task, own in build(tmp_path).rows.items()} == {"ocr_regular": 4}


def test_rows_are_read_one_by_one_from_several_files(rows, tmp_path):
    """Half of each task in each file, one of them JSON lines; paths of media are absolute."""
    write_rows(rows[::2], tmp_path / "a" / "half.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1::2]))
    found = rows_by_task([str(tmp_path / "a"), str(tmp_path / "b.jsonl")])
    assert [len(own) for own in found.values()] == [4, 4, 4]
    expected = [row for row in [*rows[::2], *rows[1::2]] if row["data_source"] == "cut_point_detection"]
    assert list(found["cut_point_detection"]) == expected


def test_an_end_token_that_the_template_does_not_write_is_refused(tokenizer):
    class Other:
        eos_token = "<|endoftext|>"
        apply_chat_template = tokenizer.apply_chat_template

    with pytest.raises(ValueError, match=r"set eos_token in the model's tokenizer_config.json"):
        check_end_of_turn(Other(), OmegaConf.create({}))
