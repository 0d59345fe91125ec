"""Sampled rows with their media opened: do they decode to the end, how long are their prompts, and are their times true?

Decoding happens in processes that are ended when a file hangs them; prompts are measured by the model's own processor.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ...data_mixers.rows import media_paths, write_rows
from ...rewards import limits
from .finding import Finding, error, note, warning
from .subject import Subject

SECONDS = 120.0
"""For decoding one file to its end, where `data.mixture.decode_seconds` does not say."""
SLACK, SLACK_SHARE = 0.5, 0.03
"""Seconds, and share, by which a video may last longer or shorter than its row says: the larger of the two."""
FEW = 3


def decodable(subject: Subject) -> Iterator[Finding]:
    """The media of sampled rows decode from the first frame to the last, within the time limit."""
    paths = list(dict.fromkeys(path for row in subject.sample for path in media_paths(row)))
    local = [path for path in paths if "://" not in path and os.path.exists(path)]
    seconds = _seconds(subject)
    bad = []
    for number, path in enumerate(local):
        subject.progress("decoding", number, len(local))
        if reason := why_not(path, seconds):
            bad.append(reason)
    for reason in bad[:FEW]:
        yield error(
            f"{len(bad)} of {len(local)} sampled media do not decode, as {reason}. Mend or remove such rows; "
            f"`sv6d data validate {subject.config.sv6d.data}` finds them all"
        )
    if local and not bad:
        yield note(f"{len(local)} sampled media decode to their end")
    if len(local) < len(paths):
        yield note(
            f"{len(paths) - len(local)} of {len(paths)} sampled media are not here (missing, or an address), and not opened"
        )


def _seconds(subject: Subject) -> float:
    return OmegaConf.select(subject.config, "data.mixture.decode_seconds") or SECONDS


def why_not(path: str, seconds: float) -> str | None:
    """Why a file does not decode; None where it does."""
    if os.path.isdir(path):
        from ...data_mixers.media import probe

        return probe(path, "video", seconds).error
    try:
        limits.run("sv6d.recipes.data:check_media", path, seconds=seconds)
    except limits.TimeLimitError:
        return f"{path} hangs its decoder: it was ended after {seconds:g} s"
    except limits.WorkerDiedError:
        return f"{path} killed the process that decoded it"
    except ValueError as wrong:
        return str(wrong)
    return None


def durations(subject: Subject) -> Iterator[Finding]:
    """A sampled video lasts as long as its row says: else its frames were sampled beforehand, and its clock is another."""
    from ...data_mixers.media import probe

    off, compared = [], 0
    for row in subject.sample:
        stated, clips = (row.get("extra_info") or {}).get("duration"), row.get("videos") or []
        if not stated or len(clips) != 1 or {"video_start", "video_end"} & clips[0].keys():
            continue
        path, rate = clips[0]["video"], clips[0].get("sample_fps") or 0
        look = probe(path, "video", _seconds(subject)) if os.path.exists(path) else None
        if look is None or look.error or not (look.fps or rate):
            continue  # `decodable` and `prompts` say so
        compared += 1
        lasts = look.frames / (look.fps or rate)
        if abs(lasts - stated) > max(SLACK, SLACK_SHARE * stated):
            off.append((abs(lasts - stated), path, lasts, stated, row))
    if off:
        _, path, lasts, stated, row = max(off, key=lambda one: one[0])
        yield error(
            f"{len(off)} of {compared} sampled videos do not last as long as their rows say: {path} lasts {lasts:.2f} s, and row "
            f"{row['extra_info']['index']} of {row['data_source']} says {stated:.2f} s. If its frames were sampled beforehand, write them "
            f"at their true rate, or as a folder of frames with sample_fps; else mend the row's duration"
        )
    elif compared:
        yield note(f"{compared} sampled videos last as long as their rows say")


def prompts(subject: Subject) -> Iterator[Finding]:
    """The prompts of sampled rows, by the model's own processor: their tokens, and the times that they tell."""
    from verl.utils import hf_processor, hf_tokenizer

    from ...data_mixers.prompt_length import prompt_builder, prompt_tokens
    from ...data_mixers.video_times import ROUNDING, told_times

    words, render = hf_tokenizer(str(subject.model_folder)), hf_processor(str(subject.model_folder))
    builder, patch = prompt_builder(words, render, subject.config.data), subject.config.data.image_patch_size
    seconds = _seconds(subject)
    lengths, refused, untrue, worst, videos = [], [], [], 0.0, 0
    for number, (row, messages) in enumerate(_messages(subject, words, render)):
        subject.progress("measuring prompts", number, len(subject.sample))
        try:
            tokens, clips = (
                prompt_tokens(messages, builder, patch, None, seconds),
                told_times(messages, builder, patch, seconds),
            )
        except ValueError as wrong:
            refused.append(f"row {row['extra_info']['index']} of {row['data_source']}: {wrong}")
            continue
        lengths += [] if tokens is None else [(row["data_source"], tokens)]
        for clip in clips or ():
            videos, worst = videos + 1, max(worst, clip.error)
            if clip.error > ROUNDING + 1e-6:
                untrue.append((clip.error, clip))
    yield from _told_lengths(subject, lengths, refused)
    if untrue:
        yield _untrue(untrue, videos)
    elif videos:
        yield note(f"the times that {videos} sampled videos' prompts tell are those of their frames, to {worst:.2f} s")


def _told_lengths(subject: Subject, measured: list[tuple[str, int]], refused: list[str]) -> Iterator[Finding]:
    most = subject.config.data.max_prompt_length
    for reason in refused[:FEW]:
        yield error(f"{len(refused)} sampled prompts cannot be written, as {reason}")
    lengths = [tokens for _, tokens in measured]
    over = [tokens for tokens in lengths if tokens > most]
    by_task: dict[str, list[int]] = {}
    for task, tokens in measured:
        by_task.setdefault(task, []).append(tokens)
    hopeless = [task for task, found in by_task.items() if len(found) > 1 and min(found) > most]
    if hopeless:
        yield error(
            f"all {len(by_task[hopeless[0]])} sampled prompts of {', '.join(hopeless)} have more than data.max_prompt_length={most:,} "
            f"tokens, the shortest {min(by_task[hopeless[0]]):,}: where no row of a task fits, training stops. Raise it, or lower fps, "
            f"max_frames or pixels (data.mixture.video, or the row's own)"
        )
    elif over:
        yield warning(
            f"{len(over)} of {len(lengths)} sampled prompts have more than data.max_prompt_length={most:,} tokens, the longest "
            f"{max(over):,}, and would be skipped: raise it, or lower fps, max_frames or pixels (data.mixture.video, or the row's own)"
        )
    elif lengths:
        yield note(
            f"{len(lengths)} sampled prompts have {min(lengths):,} to {max(lengths):,} tokens, of {most:,} allowed"
        )


def _untrue(untrue: list[tuple[float, Any]], videos: int) -> Finding:
    off, clip = max(untrue, key=lambda pair: pair[0])
    if off == float("inf"):
        what = f"{len(clip.seen)} pairs of frames, and the prompt tells {len(clip.told)} times"
    else:
        at = max(range(len(clip.seen)), key=lambda i: abs(clip.seen[i] - clip.told[i]))
        what = f"what is shown at {clip.seen[at]:.2f} s is told as {clip.told[at]:.1f} s, {off:.2f} s off"
    return error(
        f"{len(untrue)} of {videos} sampled videos have other times in their prompt than in their file: {clip.path}: {what}. Frames "
        f"that were sampled beforehand need their true fps (extract them anew at a stated rate), and nothing may sample twice: "
        f"leave data.mm_processor_kwargs.do_sample_frames unset (docs/video.md)"
    )


def _messages(subject: Subject, words, render) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Sampled rows whose media are here, and their prompts as the run's own dataset writes them."""
    from ...data_mixers.verl_dataset import MixtureDataset

    here = [row for row in subject.sample if all(os.path.exists(path) for path in media_paths(row))]
    if not here:
        return
    settings = OmegaConf.create(OmegaConf.to_container(subject.config.data, resolve=True))
    settings.mixture.skipped_rows = None
    with tempfile.TemporaryDirectory() as folder:
        path = write_rows(here, Path(folder) / "sample.parquet")
        dataset = MixtureDataset([str(path)], words, settings, render)
        for index, row in enumerate(here):
            yield row, dataset._build_messages(dict(dataset.dataframe[index]), key=dataset.prompt_key)
