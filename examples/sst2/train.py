"""Fine-tuning in a plain loop around frostline's public interface: float or binary, with or without a teacher."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import frostline as fl
from examples.divergence import stop_if_diverged
from examples.sst2.data import Encoded
from frostline.divergence import FirstBad
from frostline.errors import CheckpointError, Offence, UsageError, first_line

CHECKPOINT = "checkpoint.pt"
LOOK = 100
"""The losses are looked at after so many steps: each look waits for the device."""
_MEASURED = 256


@dataclass(frozen=True)
class Settings:
    """What decides a run's result, beside the seed, the data and the machine. `schedule` None trains in float."""

    checkpoint: str
    schedule: str | None
    teacher: str | None
    epochs: int
    fraction: float
    batch: int
    length: int
    rate: float
    warmup: float
    decay: float
    hidden: float
    scale: bool


@dataclass
class Progress:
    """What has been reached: seconds of training, and the mean loss and dev accuracies after each epoch.

    A float run has no binary accuracy.
    """

    seconds: float = 0.0
    loss: list[float] = field(default_factory=list)
    masked: list[float] = field(default_factory=list)
    binary: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One run: the module to train, its program where it turns binary, and its teacher where it has one."""

    settings: Settings
    seed: int
    module: nn.Module
    program: fl.Program | None
    teacher: nn.Module | None
    train: Encoded
    dev: Encoded
    folder: Path
    compiled: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only."""
        return steps_per_epoch(len(self.train), self.settings.batch)


def steps_per_epoch(sentences: int, batch: int) -> int:
    """The number of whole batches. Raises UsageError where there is none."""
    if sentences < batch:
        what = f"{sentences} sentences to train on are no batch of {batch}"
        raise UsageError(
            "there is too little data", [Offence(what, remedy="a larger --fraction, or a smaller --batch")]
        )
    return sentences // batch


def fit(job: Job, say: Callable[[str], None]) -> Progress:
    """Train to the end, or on from the last epoch in the run's folder.

    Raises FrostlineError when loss or weights are no longer finite: the last checkpoint is kept. Raises CheckpointError
    when the folder's checkpoint is damaged or of another run.
    """
    optimizer = _optimizer(job)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(job))
    progress = _resume(job, optimizer, rates, say)
    net: Any = torch.compile(job.module) if job.compiled else job.module
    for epoch in range(len(progress.loss), job.settings.epochs):
        started = time.monotonic()
        losses = list(_epoch(job, net, optimizer, rates, epoch, say))
        progress.loss.append(float(torch.stack(losses).mean()))
        progress.masked.append(accuracy(job, net))
        reached = f"dev accuracy {progress.masked[-1]:.1%}"
        if job.program:
            with job.program.binarized():
                progress.binary.append(accuracy(job, net))
            reached += f", fully binary {progress.binary[-1]:.1%}"
        progress.seconds += time.monotonic() - started
        _save(job, optimizer, rates, progress)
        say(f"epoch {epoch + 1} of {job.settings.epochs}: loss {progress.loss[-1]:.3f}, {reached}")
    return progress


@torch.no_grad()
def accuracy(job: Job, net: Any) -> float:
    """The share of dev sentences that are labelled rightly, in eval mode."""
    job.module.eval()
    right = torch.zeros((), dtype=torch.int64, device=job.dev.labels.device)
    for start in range(0, len(job.dev), _MEASURED):
        chosen = slice(start, start + _MEASURED)
        with _precision(job):
            logits = net(**job.dev.inputs(chosen)).logits
        right += (logits.argmax(1) == job.dev.labels[chosen]).sum()
    return int(right) / len(job.dev)


def _epoch(
    job: Job, net: Any, optimizer: torch.optim.Optimizer, rates: Any, epoch: int, say: Callable[[str], None]
) -> Iterator[Tensor]:
    """Yields the loss of each step. Order and dropout follow from seed and epoch, so that a run resumes exactly."""
    torch.manual_seed(job.seed * 1_000 + epoch)
    steps = job.steps_per_epoch
    order = torch.randperm(len(job.train)).to(job.train.labels.device)[: steps * job.settings.batch]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    job.module.train()
    bad, recent = FirstBad(job.train.labels.device), list[Tensor]()
    for step, chosen in enumerate(order.split(job.settings.batch), epoch * steps):
        with _precision(job):
            loss = _loss(job, net(**job.train.inputs(chosen)), chosen)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rates.step()
        if job.program:
            job.program.advance()
        recent.append(loss.detach())
        bad.see(step, recent[-1], parameters)
        yield recent[-1]
        if len(recent) == LOOK or step + 1 == (epoch + 1) * steps:
            stop_if_diverged(bad, job.program, job.folder / CHECKPOINT, "lower --lr")
            window = job.program.plan.window_at(step) if job.program else None
            turning = f"{window.label} turning" if window else "no window turning"
            say(f"  step {step + 1} of {job.settings.epochs * steps}: loss {torch.stack(recent).mean():.3f}, {turning}")
            recent.clear()


def _loss(job: Job, student: Any, chosen: Tensor) -> Tensor:
    """Cross-entropy; with a teacher KL divergence from its logits, and the mean squared error of the hidden states."""
    if job.teacher is None:
        return functional.cross_entropy(student.logits.float(), job.train.labels[chosen])
    inputs = job.train.inputs(chosen)
    with torch.no_grad():
        teacher = job.teacher(**inputs, output_hidden_states=job.settings.hidden > 0)
    known, said = (one.logits.float().log_softmax(1) for one in (teacher, student))
    loss = functional.kl_div(said, known, log_target=True, reduction="batchmean")
    if job.settings.hidden:
        words = inputs["attention_mask"].bool()
        pairs = zip(student.hidden_states, teacher.hidden_states, strict=True)
        errors = [functional.mse_loss(one[words].float(), other[words].float()) for one, other in pairs]
        loss = loss + job.settings.hidden * torch.stack(errors).mean()
    return loss


def _optimizer(job: Job) -> torch.optim.Optimizer:
    """AdamW in three groups: masked latent weights, vectors, and the other matrices, which alone are decayed.

    Adam's steps do not grow with what they move. Latent weights were divided by their scales, so their rate is too:
    then they move as far, for their size, as they would unscaled.
    """
    masked = {turn.site.name for turn in job.program.plan.turns} if job.program else set()
    groups: dict[str, list[nn.Parameter]] = {"latent": [], "vectors": [], "matrices": []}
    scales = []
    for name, parameter in job.module.named_parameters():
        kind = "latent" if name in masked else "vectors" if parameter.dim() < 2 else "matrices"
        groups[kind].append(parameter)
        if name.endswith(".scale"):
            scales.append(parameter.detach().mean())
    rate = job.settings.rate
    latent = rate / float(torch.stack(scales).mean()) if scales else rate
    options = [
        {"params": groups["latent"], "lr": latent, "weight_decay": 0.0},
        {"params": groups["vectors"], "lr": rate, "weight_decay": 0.0},
        {"params": groups["matrices"], "lr": rate, "weight_decay": job.settings.decay},
    ]
    return torch.optim.AdamW([group for group in options if group["params"]])


def _rate(job: Job) -> Callable[[int], float]:
    """The rate at a step as a share of its peak: a linear warm-up, then linear down to 0."""
    total = job.settings.epochs * job.steps_per_epoch
    warmup = max(1, round(total * job.settings.warmup))
    return lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup), 1.0)


def _precision(job: Job) -> Any:
    """bfloat16 on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if job.train.labels.is_cuda else nullcontext()


def _save(job: Job, optimizer: torch.optim.Optimizer, rates: Any, progress: Progress) -> None:
    state = {
        "settings": {**asdict(job.settings), "seed": job.seed},
        "program": job.program.state_dict() if job.program else None,
        "net": job.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rates": rates.state_dict(),
        "progress": asdict(progress),
    }
    fl.save_checkpoint(job.folder / CHECKPOINT, state)


def _resume(job: Job, optimizer: torch.optim.Optimizer, rates: Any, say: Callable[[str], None]) -> Progress:
    path = job.folder / CHECKPOINT
    if not path.exists():
        return Progress()
    state = fl.load_checkpoint(path)
    own, saved = {**asdict(job.settings), "seed": job.seed}, state.get("settings", {})
    differing = [name for name in own if name not in saved or own[name] != saved[name]]
    if differing:
        offences = [Offence(f"{name} is {own[name]} here and {saved.get(name)} there") for name in differing]
        offences[-1] = Offence(offences[-1].what, remedy="name another folder by --run, or remove this one")
        raise CheckpointError(f"{path} is of another run", offences)
    if job.program:
        job.program.load_state_dict(state["program"])
    try:
        job.module.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        rates.load_state_dict(state["rates"])
        progress = Progress(**state["progress"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is of another model", [Offence(first_line(error))]) from error
    say(f"{job.folder} continues after epoch {len(progress.loss)} of {job.settings.epochs}")
    return progress
