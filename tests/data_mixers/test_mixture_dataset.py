"""verl's dataset on the mixture: the stream, its exact resumption, stand-ins for bad rows, refills, decoding."""

import asyncio
import json
import logging
import os
import pickle
from collections import Counter
from itertools import islice

import pytest
from omegaconf import OmegaConf
from sv6d.data_mixers import Mixture, MixtureMismatch
from sv6d.data_mixers.media import probe
from sv6d.data_mixers.prompt_length import prompt_builder, prompt_tokens
from sv6d.data_mixers.rows import RowError, read_rows, write_rows
from sv6d.data_mixers.torch_loader import PositionLoader
from sv6d.data_mixers.verl_dataset import MixtureDataset
from torch.utils.data import SequentialSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.utils.dataset.rl_dataset import collate_fn, get_dataset_class


@pytest.fixture
def config(data):
    custom = {"path": "pkg://sv6d.data_mixers.verl_dataset", "name": "MixtureDataset"}
    return OmegaConf.create(
        {
            "train_files": str(data / "rl"),
            "val_files": str(data / "heldout"),
            "shuffle": False,
            "max_prompt_length": 4_096,  # the tests' tokens are single bytes
            "custom_cls": custom,
            "mixture": {"length": 24, "seed": 3, "skipped_rows": str(data / "out")},
        }
    )


@pytest.fixture
def build(config, processor):
    """A fresh dataset with the settings of `config`, as verl builds it."""
    return lambda files=None, **options: MixtureDataset(
        files or config.train_files, processor.tokenizer, config, processor, **options
    )


@pytest.fixture
def dataset(build):
    return build()


def name(item):
    return item["data_source"], item["extra_info"]["id"]


def test_verl_finds_it_by_its_setting(config):
    assert get_dataset_class(config).__name__ == "MixtureDataset"


def test_the_stream_is_the_mixtures(dataset):
    mixture = Mixture({"subject": 3, "ocr_regular": 2}, seed=3)  # the tasks in the order of TASKS
    assert len(dataset) == 24
    for position in range(24):
        task, row, epoch = mixture.locate(position)
        item = dataset[position]
        assert name(item) == (task, "abc"[row])
        assert item["extra_info"]["position"] == position
        assert item["extra_info"]["epoch"] == epoch


def test_an_item_is_what_verls_agent_loop_takes(dataset, data):
    videos = [dataset[position] for position in range(2) if dataset[position]["data_source"] == "subject"]
    system, user = videos[0]["raw_prompt"]
    media, question = user["content"]
    assert system["role"] == "system"
    assert media["type"] == "video"
    assert media["video"].startswith(str(data / "media"))
    assert media["fps"] == 2.0
    assert None not in media.values()
    assert question["type"] == "text"
    assert videos[0]["reward_model"]["style"] == "rule"


def test_weights_come_from_the_settings(build, config):
    config.mixture.weights = {"subject": 3, "ocr_regular": 1}
    dataset = build()
    assert [dataset[i]["data_source"] for i in range(8)].count("subject") == 6


def test_validation_files_come_in_their_order(build, config):
    dataset = build(config.val_files)
    assert [name(dataset[i]) for i in range(len(dataset))] == [("ocr_regular", "held"), ("subject", "held")]


def test_fewer_validation_rows_are_taken_evenly_over_the_tasks(build, config):
    config.train_files = "elsewhere"
    dataset = build(config.val_files.replace("heldout", "rl"), max_samples=2)
    assert [name(dataset[i]) for i in range(len(dataset))] == [("ocr_regular", "a"), ("subject", "a")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mixture": None}, "data.mixture.length is None; set it to the prompts of the run"),
        (
            {"mixture": {"lenght": 3}},
            "data.mixture.lenght is unknown; data.mixture takes weights, mode, seed, exhausted, on",
        ),
        ({"shuffle": True}, "data.shuffle=False"),
        ({"filter_overlong_prompts": True}, "filter_overlong_prompts"),
        ({"val_files": None}, "held-out"),
        (
            {"mixture": {"length": 3, "on_change": "keep"}},
            "data.mixture.on_change is 'keep'; set it to refuse or carry",
        ),
    ],
)
def test_settings_that_contradict_the_stream_are_refused(build, config, change, error):
    for key, value in change.items():
        config[key] = config.train_files if key == "val_files" else value
    with pytest.raises(ValueError, match=error):
        build()


def test_a_limit_on_the_stream_is_refused(build):
    with pytest.raises(ValueError, match="train_max_samples is 5"):
        build(max_samples=5)


# Resumption


def loader(dataset, workers=0):
    return StatefulDataLoader(
        dataset,
        batch_size=1,
        num_workers=workers,
        drop_last=True,
        collate_fn=collate_fn,
        sampler=SequentialSampler(dataset),
    )


def stream(loader):
    return [(batch["data_source"][0], batch["extra_info"][0]["id"]) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_the_uninterrupted_run_would(build, dataset, workers):
    whole = stream(loader(dataset, workers))
    assert len(whole) == 24

    def resumed(state, take):
        again = loader(build(), workers)
        again.load_state_dict(state)
        batches = iter(again)
        seen = [next(batches) for _ in range(take)]
        return [(batch["data_source"][0], batch["extra_info"][0]["id"]) for batch in seen], again.state_dict()

    first = loader(dataset, workers)
    batches = iter(first)
    for _ in range(7):
        next(batches)
    seen, state = resumed(first.state_dict(), take=6)
    assert seen == whole[7:13]
    seen, _ = resumed(state, take=11)  # a second interruption
    assert seen == whole[13:]


def test_a_longer_run_goes_on_with_the_same_stream(build, config, dataset):
    shorter = stream(loader(dataset, 0))
    config.mixture.length = 40
    assert stream(loader(build(), 0))[:24] == shorter


def test_the_checkpoint_of_another_mixture_is_refused(build, config, dataset):
    first = loader(dataset, 0)
    next(iter(first))
    config.mixture.seed = 4
    again = loader(build(), 0)
    again.load_state_dict(first.state_dict())
    with pytest.raises(MixtureMismatch, match=r"seed \(saved 3, now 4\)"):
        next(iter(again))


def test_a_position_does_not_depend_on_what_was_asked_before(dataset):
    assert [name(dataset[position]) for position in (5, 3, 5)] == [name(dataset[position]) for position in (5, 3, 5)]


def test_it_travels_to_spawned_workers(dataset):
    dataset[0]
    there = pickle.loads(pickle.dumps(dataset))
    assert [name(there[position]) for position in range(24)] == [name(dataset[position]) for position in range(24)]


def position_loader(dataset, workers=0, batch_size=1):
    return PositionLoader(dataset, batch_size, workers, collate_fn)


def names(batches):
    return [
        pair
        for batch in batches
        for pair in zip(batch["data_source"], [i["id"] for i in batch["extra_info"]], strict=True)
    ]


def test_our_trainers_resume_with_other_workers_and_another_batch_size(build, dataset):
    whole = names(position_loader(dataset))
    first = position_loader(build(), workers=2, batch_size=2)
    seen = names(islice(first, 3))
    state = first.state_dict()
    assert len(json.dumps(state)) < 1_024
    second = position_loader(build(), workers=0, batch_size=3)
    second.load_state_dict(state)
    seen += names(islice(second, 2))
    third = position_loader(build(), workers=1, batch_size=4)
    third.load_state_dict(second.state_dict())
    assert seen + names(third) == whole


def test_prompts_beyond_a_pass_are_new_ones(build, config):
    config.mixture.length = 6
    loader = position_loader(build(), batch_size=2)
    twice = names([*loader, *loader])
    config.mixture.length = 12
    assert twice == names(position_loader(build(), batch_size=2))
    assert len(loader) == 3


OTHER = {"subject": 3, "ocr_regular": 1}


@pytest.mark.parametrize("kind", [position_loader, loader])
def test_other_weights_are_carried_where_the_settings_say_so(build, config, dataset, kind):
    """Twelve prompts at 1 : 1, then 3 : 1 from there on; the rows go on where each task was."""
    first = kind(dataset)
    seen = names(islice(first, 12))
    config.mixture.weights = OTHER
    refused = kind(build())
    with pytest.raises(MixtureMismatch, match=r"other weights \(subject 1 -> 3\)"):
        refused.load_state_dict(first.state_dict())
        next(iter(refused))
    config.mixture.on_change = "carry"
    again = kind(build())
    again.load_state_dict(first.state_dict())
    seen += names(again)
    assert Counter(task for task, _ in seen[:12]) == {"subject": 6, "ocr_regular": 6}
    assert Counter(task for task, _ in seen[12:]) == {"subject": 9, "ocr_regular": 3}
    rows = [row for task, row in seen if task == "subject"]
    assert all(set(rows[i : i + 3]) == set("abc") for i in range(0, 15, 3))


def test_torchdatas_workers_cannot_carry_other_weights(build, config, dataset):
    """Each worker knows only the positions that it fetched."""
    first = loader(dataset, 1)
    next(iter(first))
    config.mixture.update(weights=OTHER, on_change="carry")
    again = loader(build(), 1)
    again.load_state_dict(first.state_dict())
    with pytest.raises(MixtureMismatch, match="subject 1 -> 3"):
        next(iter(again))


def test_a_run_that_outlasts_its_sources_is_refused_with_the_step(build, config):
    config.train_batch_size = 2
    config.mixture.exhausted = "stop"
    with pytest.raises(
        ValueError, match=r"needs 24 prompts and the mixture ends at position 5 \(step 3\): there the 2 rows of ocr"
    ):
        build()
    config.mixture.length = 5
    assert len(build()) == 5


def test_the_steps_at_which_sources_are_used_up_are_told(build, config, caplog):
    """subject, ocr_regular, subject, ocr_regular, subject: three rows of the first, two of the other."""
    config.train_batch_size = 2
    with caplog.at_level(logging.INFO):
        build()
    assert "the 2 rows of ocr_regular are used up at position 4 (step 3)" in caplog.text
    assert "the 3 rows of subject are used up at position 5 (step 3)" in caplog.text


# Bad rows


@pytest.fixture
def spoil(data):
    def spoil(file):
        (data / "media" / file).write_bytes(b"no media")
        probe.cache_clear()

    yield spoil
    probe.cache_clear()


def test_the_next_row_of_the_task_stands_in(data, build, dataset, spoil, caplog):
    healthy = [name(dataset[position]) for position in range(24)]
    spoil("b.mp4")
    dataset = build()
    with caplog.at_level(logging.WARNING):
        seen = [name(dataset[position]) for position in range(24)]
    assert seen == [("subject", "c") if row == ("subject", "b") else row for row in healthy]
    assert caplog.text.count("skipped row 1 of subject (id 'b')") == 1
    [line] = (data / "out" / "skipped_rows.jsonl").read_text().splitlines()
    listed = json.loads(line)
    assert (listed["task"], listed["index"], listed["id"]) == ("subject", 1, "b")
    assert "b.mp4" in listed["error"]


def test_the_stand_in_wraps_around(dataset, spoil):
    spoil("c.mp4")
    assert {name(dataset[position]) for position in range(24)} == {
        ("subject", "a"),
        ("subject", "b"),
        ("ocr_regular", "a"),
        ("ocr_regular", "b"),
    }


def test_a_task_without_any_decodable_row_stops_the_run(dataset, spoil):
    spoil("a.png")
    spoil("b.png")
    with pytest.raises(RowError, match="none of the 2 rows of ocr_regular can be used: row 1: Unid"):
        [dataset[position] for position in range(2)]


@pytest.fixture
def hang(data):
    """Put a file that hangs its decoder in the place of a healthy one."""

    def hang(file):
        (data / "media" / file).unlink()
        os.mkfifo(data / "media" / file)

    yield hang
    probe.cache_clear()


def test_a_video_that_hangs_its_decoder_is_replaced_and_listed(data, config, build, hang):
    hang("b.mp4")
    config.mixture.decode_seconds = 0.5
    dataset = build()
    assert {name(dataset[position]) for position in range(24)} >= {("subject", "a"), ("subject", "c")}
    assert ("subject", "b") not in {name(dataset[position]) for position in range(24)}
    [line] = map(json.loads, (data / "out" / "skipped_rows.jsonl").read_text().splitlines())
    assert (line["task"], line["index"], line["id"]) == ("subject", 1, "b")
    assert "hangs its decoder: it was ended after data.mixture.decode_seconds=0.5" in line["error"]


def test_one_that_hangs_only_in_the_rollout_fails_its_rollouts_in_time_and_is_listed(data, config, build, hang):
    """Its group then gives way to another row of the task, as any group that fails (tests/verl_plugin/test_failing_tasks.py)."""
    config.mixture.decode_seconds = 0.5
    dataset = build()
    [messages] = [item["raw_prompt"] for item in map(dataset.__getitem__, range(6)) if name(item) == ("subject", "b")][
        :1
    ]
    hang("b.mp4")
    with pytest.raises(RowError, match=r"b\.mp4.*TimeoutError: .*b\.mp4 hangs its decoder"):
        asyncio.run(MixtureDataset.process_multi_modal_info(messages, 16, config))
    [line] = map(json.loads, (data / "out" / "skipped_rows.jsonl").read_text().splitlines())
    assert (line["task"], line["index"], line["id"]) == ("subject", 1, "b")
    assert dataset.metrics(6)["sv6d/skipped_rows"] == 1


def rewrite(path, change):
    rows = read_rows(path)
    change(rows)
    write_rows(rows, path)
    return rows


def test_an_overlong_prompt_is_replaced(data, config, build, processor):
    """Row b is given more frames than the others: its prompt has `longest` tokens, and the limit is one less."""
    rewrite(data / "rl" / "subject.parquet", lambda rows: rows[1]["videos"][0].update(fps=25.0))
    messages = next(item for item in map(build().__getitem__, range(24)) if name(item) == ("subject", "b"))[
        "raw_prompt"
    ]
    longest = prompt_tokens(messages, prompt_builder(processor.tokenizer, processor, {}), 16)
    config.max_prompt_length = longest
    assert ("subject", "b") in {name(dataset[position]) for dataset in [build()] for position in range(24)}
    config.max_prompt_length = longest - 1
    dataset = build()
    assert {name(dataset[position]) for position in range(24)} == {
        *[("subject", "a"), ("subject", "c"), ("ocr_regular", "a"), ("ocr_regular", "b")]
    }
    [line] = map(json.loads, (data / "out" / "skipped_rows.jsonl").read_text().splitlines())
    assert line["error"].startswith(
        f"its prompt has {longest:,} tokens, more than data.max_prompt_length={longest - 1:,}"
    )


def test_an_overlong_prompt_of_text_alone_is_cut_only_where_it_may_be(data, config, build):
    """verl's rollout cuts text from the left and never cuts a prompt with media."""

    def strip(rows):
        for row in rows:
            row.update(images=[], prompt=[{"role": "user", "content": "x" * 5_000}])

    rewrite(data / "rl" / "ocr_regular.parquet", strip)
    config.truncation = "left"
    assert {build()[position]["data_source"] for position in range(2)} == {"subject", "ocr_regular"}
    config.truncation = "error"
    dataset = build()
    with pytest.raises(RowError, match=r"none of the 2 rows of ocr_regular.*5,0\d\d tokens"):
        [dataset[position] for position in range(2)]


def test_a_broken_ground_truth_is_replaced(data, config, build):
    """One row in twelve: told at the start, and skipped when its turn comes."""

    def spoil(rows):
        rows[:] = [{**row, "extra_info": {**row["extra_info"], "id": str(i)}} for i, row in enumerate(rows * 4)]
        rows[1]["reward_model"] = {"style": "rule", "ground_truth": "soon"}

    rewrite(data / "rl" / "subject.parquet", spoil)
    dataset = build()
    seen = [name(dataset[position])[1] for position in range(24) if dataset[position]["data_source"] == "subject"]
    assert Counter(seen) == Counter([*"0234567892", "10", "11"])  # an epoch is twelve draws
    [line] = map(json.loads, (data / "out" / "skipped_rows.jsonl").read_text().splitlines())
    assert "row 1 (subject, id '1'): reward_model.ground_truth" in line["error"]


def test_a_resumed_run_replaces_the_same_rows_by_the_same_rows(build, dataset, spoil):
    spoil("b.mp4")
    whole = stream(loader(dataset, 0))
    first = loader(build(), 0)
    batches = iter(first)
    for _ in range(7):
        next(batches)
    again = loader(build(), 0)
    again.load_state_dict(first.state_dict())
    assert stream(again) == whole[7:]


def test_epochs_and_skipped_rows_are_metrics(build, spoil):
    """After 12 prompts: 6 of 3 rows and 6 of 2 rows; one row could not be used."""
    spoil("b.mp4")
    dataset = build()
    assert [dataset[position] for position in range(12)]
    assert dataset.metrics(12) == {
        "mixture/subject/epochs": 2.0,
        "mixture/ocr_regular/epochs": 3.0,
        "sv6d/skipped_rows": 1,
    }


def test_rows_that_workers_skip_are_counted(build, spoil):
    """Two workers prepare batches; each may meet the row, which counts once."""
    spoil("b.mp4")
    loader = position_loader(build(), workers=2, batch_size=4)
    assert list(loader)
    assert len(loader.dataset.skipped) == 0
    assert loader.dataset.metrics(24)["sv6d/skipped_rows"] == 1


# Refills


def test_a_refill_is_another_row_of_the_task(build, dataset):
    """Every three refills visit the three rows once, in an order that is not the stream's; the same number, the same row."""
    names = [name(dataset.refill("subject", number)) for number in range(12)]
    assert all(set(names[i : i + 3]) == {("subject", row) for row in "abc"} for i in range(0, 12, 3))
    assert [name(build().refill("subject", number)) for number in reversed(range(12))] == names[::-1]
    stream = [name(item) for item in map(dataset.__getitem__, range(24)) if item["data_source"] == "subject"]
    assert names != stream
    assert dataset.refill("subject", 4)["extra_info"]["position"] == -1


def test_a_refill_is_a_row_that_can_be_used(dataset, spoil):
    spoil("b.mp4")
    assert {name(dataset.refill("subject", number)) for number in range(6)} == {("subject", "a"), ("subject", "c")}


# Decoding


def test_a_failed_decoding_names_the_file_and_is_not_kept(data, dataset, config):
    def decode(messages):
        return asyncio.run(MixtureDataset.process_multi_modal_info(messages, 16, config))

    messages = next(item for item in map(dataset.__getitem__, range(2)) if item["data_source"] == "ocr_regular")[
        "raw_prompt"
    ]
    path = data / "media" / "lost.png"
    messages[1]["content"][0]["image"] = str(path)
    with pytest.raises(RowError, match=r"do not decode: .*lost\.png.*FileNotFoundError.*sv6d data validate"):
        decode(messages)
    path.write_bytes((data / "media" / "a.png").read_bytes())
    images, videos, audios = decode(messages)
    assert (images[0].size, videos, audios) == ((96, 64), None, None)  # two by three patches of 32
