"""Every reader by its name."""

from collections.abc import Mapping

from . import cuts, ink, moments, plain, reasoning, shots, text
from .found import Reader

_FRAMING = ("shot_framing", "camera_movement", "subject")

READERS: Mapping[str, Reader] = {
    "charades_sta": Reader(
        "Charades-STA: sentences and their moments",
        (moments.TASK,),
        "charades_sta_train.txt; videos ID.mp4; lengths from Charades_v1_train.csv (--durations)",
        moments.charades_sta,
    ),
    "qvhighlights": Reader(
        "QVHighlights: queries with several windows",
        (moments.TASK,),
        "highlight_train_release.jsonl; videos VID.mp4",
        moments.qvhighlights,
    ),
    "activitynet": Reader(
        "ActivityNet-1.3, and THUMOS14 in its form: actions and their intervals",
        (moments.TASK,),
        "activity_net.v1-3.min.json (--subset training); videos v_ID.mp4 or ID.mp4",
        moments.activitynet,
    ),
    "activitynet_captions": Reader(
        "ActivityNet Captions: sentences and their moments",
        (moments.TASK,),
        "train.json; videos v_ID.mp4",
        moments.activitynet_captions,
    ),
    "clipshots": Reader(
        "ClipShots: transitions by frames",
        ("cut_point_detection",),
        "annotations/train.json; videos NAME.mp4",
        cuts.clipshots,
    ),
    "autoshot": Reader(
        "AutoShot: transitions by frames", ("cut_point_detection",), "kuaishou_v2.txt; videos NAME.mp4", cuts.autoshot
    ),
    "rai": Reader("RAI: shots by frames", ("cut_point_detection",), "N_gt.txt, one a video; videos N.mp4", cuts.rai),
    "shotbench": Reader(
        "ShotBench and ShotQA: questions on single shots and stills",
        (*_FRAMING, "lens_and_focus", "lighting_and_color", "composition_and_rhythm", "visual_reasoning"),
        "test.tsv; media as its column `path` says",
        shots.shotbench,
    ),
    "moviecuts": Reader(
        "MovieCuts: kinds of cut", ("editing_logic",), "cut-type-*.json; clips CLIP.mp4", shots.moviecuts
    ),
    "ave": Reader("AVE: shots of scenes, labelled", _FRAMING, "annotations.json; scenes SCENE.mp4", shots.ave),
    "textocr": Reader(
        "TextOCR: words in photographs", (text.TASK,), "TextOCR_0.1_train.json; pictures as it names them", text.textocr
    ),
    "icdar2015": Reader(
        "ICDAR 2015: words in photographs",
        (text.TASK,),
        "gt_img_N.txt, one a picture; pictures img_N.jpg",
        text.icdar2015,
    ),
    "crohme": Reader("CROHME: handwritten formulas as ink", (ink.TASK,), "*.inkml, one a formula", ink.crohme),
    "mathwriting": Reader(
        "MathWriting: handwritten formulas as ink", (ink.TASK,), "*.inkml, one a formula", ink.mathwriting
    ),
    "llava_cot": Reader(
        "LLaVA-CoT-100k: reasoning about pictures",
        ("visual_reasoning",),
        "train.jsonl; pictures as it names them",
        reasoning.llava_cot,
    ),
    "csv": Reader(
        "a table of your own", (), "*.csv or *.tsv with the columns task, media, ground_truth, ...", plain.csv_rows
    ),
    "jsonl": Reader(
        "JSON lines of your own", (), "*.jsonl with the keys task, media, ground_truth, ...", plain.jsonl_rows
    ),
}
"""Annotation formats by name."""
