"""Documents are checked from the command line: every violation with file, line, place and mend."""

import json

from click.testing import CliRunner
from sv6d.schema.document_cli import command

SHOT = {"start": 0.0, "end": 2.0, "role": "exposition", "labels": {"camera_language": {"shot_size": "medium shot"}}}
SOUND = {"video": "a.mp4", "duration": 4.0, "skeleton_type": "dramatic_arc",
         "shots": [SHOT, {**SHOT, "start": 2.0, "end": 3.0}, {**SHOT, "start": 3.0, "end": 4.0, "role": "climax"}]}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_sound_documents_and_their_skeleton(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(SOUND) + "\n\n" + json.dumps({**SOUND, "skeleton_type": None}) + "\n")
    result = run(tmp_path / "a.jsonl", "--skeletons")
    assert result.exit_code == 0, result.output
    assert "a.jsonl, line 1: dramatic_arc: exposition 0-3, climax 3-4" in result.output
    assert "a.jsonl, line 3: dramatic_arc:" in result.output and "2 documents, 0 with errors" in result.output


def test_every_violation_has_its_place(tmp_path):
    labels = {"camera_language": {"shot_size": "wide shot"}}
    wrong = {**SOUND, "shots": [SHOT, {"start": 2.5, "end": 4.0, "role": "climaks", "labels": labels}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(wrong) + "\nnot json\n")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert (
        "line 1: error: shots[1].start: is 2.5, the end of shots[0] is at 2.0: gap; shots must tile the video"
        in result.output
    )
    assert "line 1: error: shots[1].role: 'climaks' is no role of dramatic_arc; did you mean 'climax'" in result.output
    assert "shots[1].labels.camera_language.shot_size" in result.output and "use 'long shot'" in result.output
    assert "line 2: error: document: not a structural document" in result.output
    assert "2 documents, 2 with errors" in result.output


def test_a_warning_is_printed_and_is_no_error(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({**SOUND, "shot": []}) + "\n")
    result = run(tmp_path)
    assert result.exit_code == 0 and "line 1: warning: document: key 'shot' is not read" in result.output


def test_a_folder_without_documents_is_told(tmp_path):
    result = run(tmp_path)
    assert result.exit_code == 1 and "0 documents" in result.output
