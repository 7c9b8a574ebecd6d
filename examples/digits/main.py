"""The whole path on handwritten digits: plan, train, look inside, freeze, export, prove.

Ctrl-C and start again: it goes on.

Run it with `python -m examples.digits.main`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import frostline as fl
from examples.digits.data import loaders
from examples.digits.network import residual
from frostline.training import Interrupted, fit

HERE = Path(__file__).parent
RUN = Path("runs/digits")
EPOCHS = 24
PROBE_EVERY = 10


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train, test = loaders()
    images, labels = next(iter(test))
    spec = fl.load_spec(HERE / "schedule.yaml")

    torch.manual_seed(spec.seed)
    model = residual().to(device)
    program = fl.compile(model, spec, (images[:8].to(device),), total_steps=EPOCHS * len(train))
    print(program.plan, end="\n\n")

    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.05, momentum=0.9)
    fit(program, optimizer, train, test, EPOCHS, RUN, probe_every=PROBE_EVERY)
    fl.draw(RUN / "probe.csv", RUN / "probe.png")

    path = RUN / "model.onnx"
    certificate = fl.export(program.freeze(), path, inputs=(images,))
    session = fl.session(path)
    logits = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    accuracy = (logits.argmax(1) == labels.numpy()).mean()
    print(f"\n{certificate}\n")
    print(f"{RUN / 'probe.png'} shows accuracy, gradient and progress, depth by depth")
    print(f"{path} in ONNX Runtime ({session.get_providers()[0]}): {accuracy:.1%} of {len(labels)} test digits")


if __name__ == "__main__":
    try:
        main()
    except Interrupted as interrupted:
        sys.exit(str(interrupted))
    except fl.FrostlineError as error:
        sys.exit(f"error: {error}")
