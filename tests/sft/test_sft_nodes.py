"""A warm start on several nodes has no launcher that looks at its checkpoints: its first rank does."""

from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from sv6d.sft import manifest
from sv6d.sft.train import WarmStart
from verl.trainer.sft_trainer import SFTTrainer


def test_a_warm_start_on_several_nodes_continues_from_the_last_whole_checkpoint_too(tmp_path, monkeypatch, capsys):
    for step in (10, 20):
        (tmp_path / f"global_step_{step}").mkdir()
        (tmp_path / f"global_step_{step}" / "model").write_text("weights")
    manifest.seal(tmp_path / "global_step_10")  # the nodes were gone before step 20 was
    manifest.name_latest(tmp_path, 20)

    def handler(self):
        self.ckpt_handler = SimpleNamespace(max_ckpt_to_keep=2, save_checkpoint=None)

    monkeypatch.setattr(SFTTrainer, "_build_ckpt_handler", handler)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    trainer = object.__new__(WarmStart)
    settings = {"nnodes": 2, "resume_mode": "auto", "default_local_dir": str(tmp_path)}
    trainer.config, trainer.rank = OmegaConf.create({"trainer": settings}), 0
    trainer._build_ckpt_handler()
    assert (tmp_path / manifest.TRACKER).read_text() == "10"
    assert "global_step_20 is not whole" in capsys.readouterr().out
