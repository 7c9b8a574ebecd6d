"""The loop: one network on its way to binary, through nothing but frostline's public interface."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from examples.cifar import augment
from examples.cifar.average import Average
from examples.cifar.data import STATISTICS, Data, Split
from examples.cifar.networks.build import Images, build, reads_zero_one
from examples.cifar.networks.parts import LARGE
from examples.cifar.recipe import Settings, optimizer_of, rate_at
from examples.cifar.rows import FLOAT, spec_of
from examples.cifar.trained import CHECKPOINT, copy_weights, read_checkpoint, trained
from examples.divergence import stop_if_diverged
from frostline.divergence import FirstBad
from frostline.errors import CheckpointError, Offence, UsageError
from frostline.randomness import epoch_seed

WATCH = 50
"""A step that was not finite is looked for after so many: each look waits for the device."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history.

    Accuracies are shares of the test set, in float32, and None where they were not measured; a float network has no
    binary one.
    """

    epoch: int
    window: str
    loss: float
    masked: float | None
    binary: float | None
    seconds: float

    def __str__(self) -> str:
        masked = "" if self.masked is None else f"accuracy {self.masked:6.2%}  "
        binary = "" if self.binary is None else f"fully binary {self.binary:6.2%}  "
        window = f"{self.window} turning" if self.window else ""
        return f"epoch {self.epoch:3d}  {window:<18}  loss {self.loss:.4f}  {masked}{binary}{self.seconds:.1f} s"


class Training:
    """A network in training: everything that a checkpoint holds, and a step.

    `net` is what is trained, the program's or the float network; `folder` holds the checkpoint. A `spec` takes the
    place of the method's.
    """

    def __init__(
        self,
        settings: Settings,
        data: Data,
        folder: Path,
        source: Path,
        device: torch.device,
        spec: fl.ScheduleSpec | None = None,
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        self.train, self.test = (_held(split, device) for split in (data.train.share(settings.fraction), data.test))
        self.steps_per_epoch = len(self.train) // settings.batch
        if not self.steps_per_epoch:
            what = f"a batch of {settings.batch} is more than the {len(self.train)} training images"
            raise UsageError("there is not one whole batch", [Offence(what, remedy="lower --batch")])
        self.total = settings.epochs * self.steps_per_epoch
        images = Images(data.classes, data.size, *STATISTICS[settings.dataset])
        torch.manual_seed(settings.seed)
        model = build(settings.network, images, settings.width)
        if settings.start:
            copy_weights(trained(settings.start, images, source), model, settings.start)
        self.teacher = trained(settings.teacher, images, source).eval() if settings.teacher else None
        if self.teacher:
            _channels_last(self.teacher.to(device))
        model.to(device)
        self.program = None
        if settings.method != FLOAT:
            self.program = self._compiled(model, spec or spec_of(settings.method, settings.seed))
        self.net: nn.Module = self.program.net if self.program else model
        _channels_last(self.net)
        latent = {turn.site.name for turn in self.program.plan.turns} if self.program else ()
        self.optimizer = optimizer_of(self.net, latent, settings)
        self.average = Average(self.net, settings.ema) if settings.ema else None
        self._forward = torch.compile(self.net) if settings.compiled else self.net
        self._bad = FirstBad(device)
        self.step = 0
        self.history: list[Epoch] = []
        self._resume()

    def _compiled(self, model: nn.Module, spec: fl.ScheduleSpec) -> fl.Program:
        if reads_zero_one(self.settings.network) and spec.binarize.activations:
            levels = {"sites": "*.activation", "levels": [0, 1]}
            spec = fl.edit_spec(spec, {"overrides": [*spec.as_data()["overrides"], levels]})
        example = augment.pixels(self.test.images[:2].to(self.device))
        return fl.compile(model, spec, (example,), self.total, steps_per_epoch=self.steps_per_epoch)

    def run(self) -> Iterator[Epoch]:
        """Train to the end of the budget, epoch by epoch, with a checkpoint after each.

        Raises FrostlineError, naming window and step, where loss or weights are not finite; the last checkpoint then
        stays.
        """
        while self.step < self.total:
            began = time.perf_counter()
            loss = self._epoch(self.step // self.steps_per_epoch)
            window = self._window(self.step - 1)
            epoch = len(self.history) + 1
            due = epoch % self.settings.measure_every == 0 or self.step == self.total
            masked, binary = self.measure() if due else (None, None)
            self.history.append(Epoch(epoch, window, loss, masked, binary, time.perf_counter() - began))
            self._save()
            yield self.history[-1]

    def _epoch(self, epoch: int) -> float:
        self.net.train()
        total = torch.zeros((), device=self.device)
        for images, labels in self._batches(epoch):
            total += self._step(images, labels)
            if self.step % WATCH == 0:
                self._check()
        self._check()
        return float(total) / self.steps_per_epoch

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, augmented. Order, crops and dropout follow from seed and epoch alone."""
        torch.manual_seed(epoch_seed(self.settings.seed, epoch))
        order = torch.randperm(len(self.train), device=self.train.images.device)
        for batch in order.split(self.settings.batch)[: self.steps_per_epoch]:
            images = self._augmented(self.train.images[batch].to(self.device, non_blocking=True))
            labels = self.train.labels[batch].to(self.device, non_blocking=True)
            yield images.contiguous(memory_format=torch.channels_last), labels

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * rate_at(self.settings.rate, self.step / self.total)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.settings.bf16)):
            loss = self._loss(self._forward(images), images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimizer.step()
        loss = loss.detach()
        self._bad.see(self.step, loss, self.net.parameters())
        self.step += 1
        if self.program:
            self.program.advance()
        if self.average:
            self.average.update()
        return loss

    def _augmented(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        large = size > LARGE
        images = augment.zoom(augment.pixels(images)) if large else augment.pixels(augment.shift(images, size // 8))
        return augment.cutout(images, self.settings.cutout) if self.settings.cutout else images

    def _loss(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy with the labels and with the teacher's distribution (Hinton et al., arXiv 1503.02531)."""
        share = self.settings.teacher_share if self.teacher else 0.0
        loss = torch.zeros((), device=self.device)
        if share < 1:
            smoothing = self.settings.smoothing
            loss = (1 - share) * functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        if self.teacher and share:
            t = self.settings.temperature
            with torch.no_grad():
                taught = (self.teacher(images) / t).softmax(1)
            loss = loss + share * t * t * functional.cross_entropy(logits / t, taught)
        return loss

    def measure(self) -> tuple[float, float | None]:
        """The test accuracy of the network as it is, and as if it were fully binary; of the average where there is one.

        In float32, as exported, whatever the precision of training.
        """
        with self.averaged():
            masked = accuracy(self.net, self.test, self.device)
            if self.program is None:
                return masked, None
            plan = self.program.plan
            if self.step >= plan.settled_at:
                estimated = plan.spec.batch_norm is not None
                return masked, accuracy(self.frozen().module, self.test, self.device) if estimated else masked
            with self.program.binarized() as net:
                return masked, accuracy(net, self.test, self.device)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the net is what is measured and shipped."""
        with self.average.applied() if self.average else nullcontext():
            yield

    def frozen(self) -> fl.Graph:
        """The binary graph, with statistics of BatchNorm from training batches where the spec asks for them.

        Within `averaged()` it is of the average. Raises UsageError in a float run, PassError before every site is
        settled.
        """
        if self.program is None:
            raise UsageError("a float network is not frozen", [Offence(f"{self.folder} is a float run")])
        asked = self.program.plan.spec.batch_norm
        if asked is None:
            return self.program.freeze()
        batches = chain.from_iterable(map(self._batches, count(self.settings.epochs)))
        return self.program.freeze(batches=[images for images, _ in islice(batches, asked.reestimate)])

    def _window(self, step: int) -> str:
        window = self.program.plan.window_at(step) if self.program else None
        return window.label if window else ""

    def _check(self) -> None:
        remedy = "lower --lr, or clip the gradients with --clip"
        stop_if_diverged(self._bad, self.program, self.folder / CHECKPOINT, remedy)

    def _save(self) -> None:
        fl.save_checkpoint(
            self.folder / CHECKPOINT,
            {
                "settings": self.settings.model_dump(),
                "step": self.step,
                "program": self.program.state_dict() if self.program else {},
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict() if self.average else {},
                "history": [asdict(epoch) for epoch in self.history],
            },
        )

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        state = read_checkpoint(path)
        own, other = self.settings.model_dump(), state["settings"]
        differences = [
            Offence(f"{name} is {own.get(name)} here and {other.get(name)} there", remedy="or give another --run")
            for name in own.keys() | other.keys()
            if own.get(name) != other.get(name)
        ]
        if differences:
            raise CheckpointError(f"the run in {self.folder} has other settings", differences)
        if self.program:
            self.program.load_state_dict(state["program"])
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.step = state["step"]


def accuracy(net: nn.Module, split: Split, device: torch.device, batch: int = 250) -> float:
    """The share of images whose largest output is their label, in eval mode."""
    net.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.no_grad():
        for images, labels in zip(split.images.split(batch), split.labels.split(batch), strict=True):
            x = augment.pixels(images.to(device)).contiguous(memory_format=torch.channels_last)
            right += (net(x).argmax(1) == labels.to(device)).sum()
    return int(right) / len(split)


def _held(split: Split, device: torch.device) -> Split:
    """The images on the device, unless they would take more than half of a GPU's free memory."""
    if device.type == "cuda" and 2 * split.images.nbytes > torch.cuda.mem_get_info(device)[0]:
        return Split(split.images.pin_memory(), split.labels)
    return Split(split.images.to(device), split.labels.to(device))


def _channels_last(net: nn.Module) -> None:
    """Order all images, kernels and their masks channels last."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
