from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from frostline.adapters.lightning import DrivePlan
from frostline.adapters.logs import progress
from frostline.errors import CheckpointError, UsageError
from tests.adapters.plain import GATHERED, TOTAL, assert_equal, loader, program, sgd, trained

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You are using .*seed_everything"),
]


class Classifier(LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.net)


class ByHand(Classifier):
    """Steps its optimizer itself."""

    automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        loss = super().training_step(batch) / GATHERED
        self.manual_backward(loss)
        if batch_idx % GATHERED == GATHERED - 1:
            optimizer: Any = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()


def trainer(one: fl.Program, folder: Path, *callbacks: Any, **edits: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu", "devices": 1, "max_epochs": 3, "accumulate_grad_batches": GATHERED, "logger": False,
        "enable_checkpointing": bool(callbacks), "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    return Trainer(default_root_dir=folder, callbacks=[DrivePlan(one), *callbacks], **settings | edits)


def saving(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, every_n_epochs=1, save_top_k=-1)


def test_training_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    one = program()
    trainer(one, tmp_path).fit(Classifier(one.net), loader())
    assert one.step == TOTAL
    assert_equal(one, trained(program()))
    one.freeze()


def test_steps_that_the_module_makes_itself_are_counted(tmp_path: Path) -> None:
    one = program()
    # Lightning counts these steps towards max_steps, and the batches by hand.
    trainer(one, tmp_path, max_epochs=-1, max_steps=TOTAL, accumulate_grad_batches=1).fit(ByHand(one.net), loader())
    assert_equal(one, trained(program()))


@pytest.mark.parametrize("hold", [False, True])
def test_a_run_that_is_resumed_is_the_run_that_was_not_interrupted(tmp_path: Path, hold: bool) -> None:
    class Interrupted(Classifier):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise KeyError("the power went out")

    first = program(progression__hold=hold)
    with pytest.raises(KeyError, match="the power went out"):
        trainer(first, tmp_path, saving(tmp_path)).fit(Interrupted(first.net), loader())
    (second_epoch,) = tmp_path.glob("epoch=1*.ckpt")
    resumed = program(seed=9, progression__hold=hold)
    trainer(resumed, tmp_path, saving(tmp_path)).fit(Classifier(resumed.net), loader(), ckpt_path=str(second_epoch))
    assert_equal(resumed, trained(program(progression__hold=hold)))


def test_the_plan_is_in_lightning_s_log(tmp_path: Path) -> None:
    one = program()
    logger = CSVLogger(tmp_path)
    trainer(one, tmp_path, logger=logger, log_every_n_steps=1).fit(Classifier(one.net), loader())
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = []
    other = program()
    for _ in range(TOTAL):
        other.advance()
        expected.append(progress(other))
    assert [{name: float(row[name]) for name in expected[0]} for row in rows] == [
        {name: float(torch.tensor(value)) for name, value in row.items()} for row in expected
    ]


def test_a_step_that_the_scaler_skips_is_one_of_lightning_s(tmp_path: Path) -> None:
    """Or the trainer would be done before the plan is."""
    from lightning.pytorch.plugins import MixedPrecision

    one = program()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    trainer(one, tmp_path, plugins=[plugin]).fit(Classifier(one.net), loader())
    assert scaler.get_scale() < 2.0**22
    assert one.step == TOTAL
    one.freeze()


@pytest.mark.parametrize("use_buffers", [False, True])
def test_averaged_weights_end_in_the_binary_net(tmp_path: Path, use_buffers: bool) -> None:
    one = program()
    averaging = EMAWeightAveraging(use_buffers=use_buffers, decay=0.5)
    trainer(one, tmp_path, averaging).fit(Classifier(one.net), loader())
    last = dict(trained(program()).net.named_parameters())
    weights = {name: value for name, value in one.net.named_parameters() if name.endswith("weight")}
    assert not any(torch.equal(value, last[name]) for name, value in weights.items())  # BatchNorm holds biases still
    one.freeze()


def test_a_module_without_the_net_and_another_budget_are_refused_at_once(tmp_path: Path) -> None:
    one = program()
    with pytest.raises(UsageError) as caught:
        trainer(one, tmp_path, max_epochs=4).fit(Classifier(one.model), loader())
    assert str(caught.value) == (
        "the training does not fit the program\n"
        "  program.net is no part of the model that is trained\n"
        "    -> train program.net, or a module that holds it: self.net = program.net\n"
        "  the plan has 12 optimizer steps, and the trainer makes 16\n"
        "    -> Trainer(max_epochs=-1, max_steps=12), or fl.compile(..., total_steps=16)"
    )


def test_a_trainer_without_an_end_is_refused(tmp_path: Path) -> None:
    one = program()
    with pytest.raises(UsageError, match="the trainer does not know how many it makes"):
        trainer(one, tmp_path, max_epochs=-1).fit(Classifier(one.net), loader())
    with pytest.raises(UsageError, match="the trainer does not know how many it makes"):
        trainer(one, tmp_path, accumulate_grad_batches=1).fit(ByHand(one.net), loader())


def test_a_dry_run_may_be_shorter(tmp_path: Path) -> None:
    one = program()
    trainer(one, tmp_path, fast_dev_run=True).fit(Classifier(one.net), loader())
    assert one.step == 1


def test_a_program_that_is_ahead_of_the_trainer_is_refused(tmp_path: Path) -> None:
    one = program()
    one.advance()
    with pytest.raises(UsageError, match="the program is at step 1 of its plan, and the trainer at step 0"):
        trainer(one, tmp_path).fit(Classifier(one.net), loader())


def test_a_checkpoint_of_another_spec_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    one, other = program(), program(seed=0, progression__curve={"kind": "linear"})
    trainer(one, tmp_path, saving(tmp_path)).fit(Classifier(one.net), loader())
    last = next(tmp_path.glob("epoch=2*.ckpt"))
    with pytest.raises(CheckpointError, match=r"progression\.curve"):
        trainer(other, tmp_path, saving(tmp_path)).fit(Classifier(other.net), loader(), ckpt_path=str(last))
    told = Trainer(
        max_epochs=3,
        accumulate_grad_batches=GATHERED,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        callbacks=[DrivePlan(other, edited=True), saving(tmp_path)],
    )
    earlier = next(tmp_path.glob("epoch=1*.ckpt"))
    with pytest.warns(UserWarning, match=r"goes on under another plan:[\s\S]*progression\.curve"):
        told.fit(Classifier(other.net), loader(), ckpt_path=str(earlier))
    assert other.step == TOTAL
    other.freeze()
