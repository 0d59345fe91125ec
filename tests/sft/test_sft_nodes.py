"""A warm start on several nodes has no launcher that looks at its checkpoints: its first rank does."""

from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from sv6d.data_mixers.mixture import Mixture
from sv6d.data_mixers.torch_loader import PositionLoader
from sv6d.sft import manifest
from sv6d.sft.train import Share, WarmStart
from sv6d.verl_plugin.surviving.checkpoint_folder import stop_file
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


def test_a_warm_start_is_stopped_by_the_same_file_as_grpo(tmp_path):
    config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path)}})
    assert stop_file(config) == tmp_path / manifest.STOP


class Positions:
    """A dataset of 24 positions, each its own item."""

    mixture = Mixture({"a": 5, "b": 7})

    def __len__(self):
        return 24

    def __getitem__(self, position):
        return position

    def state(self, position):
        return self.mixture.state(position)

    def resume(self, state):
        return self.mixture.resume(state)[1]


def test_the_ranks_of_a_step_share_its_rows_and_go_on_with_any_number_of_workers():
    """Steps of 6 rows over 2 ranks: rows 0 to 5 are the first step's. What follows step 2 follows it whoever fetches it."""
    loaders = [PositionLoader(Share(Positions(), rank, 2), 3, num_workers=2, collate_fn=list) for rank in range(2)]
    steps = list(zip(*loaders, strict=True))
    assert [sorted([*first, *second]) for first, second in steps] == [list(range(i, i + 6)) for i in (0, 6, 12, 18)]

    loader = PositionLoader(Share(Positions(), 1, 2), 3, num_workers=2, collate_fn=list)
    batches = iter(loader)
    assert [next(batches), next(batches)] == [second for _, second in steps[:2]]
    state = loader.state_dict()
    assert state["position"] == 12  # the run's, on each rank
    again = PositionLoader(Share(Positions(), 1, 2), 3, num_workers=0, collate_fn=list)
    again.load_state_dict(state)
    assert list(again) == [second for _, second in steps[2:]]
