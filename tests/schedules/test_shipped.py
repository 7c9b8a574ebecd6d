"""The specs that ship: each trains, freezes, and comes out as a proven file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

import frostline as fl
from examples.digits.network import residual
from frostline.errors import SpecError

NAMES = sorted(path.stem for path in Path("schedules").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_spec_leads_to_a_proven_file(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(32, 1, 8, 8), torch.randint(0, 10, (32,))
    program = fl.compile(residual(width=4, depth=4), fl.load_spec(name), (x[:2],), total_steps=24)
    optimizer = torch.optim.SGD(program.net.parameters(), lr=0.05, momentum=0.9)
    while program.step < 24:
        functional.cross_entropy(program.net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        program.advance()
    asked = program.plan.spec.batch_norm
    binary = program.freeze(batches=[x] * asked.reestimate if asked else None)
    certificate = fl.export(binary, tmp_path / "model.onnx", inputs=(x,))
    assert certificate.agreeing == certificate.decisions == 32


def test_a_spec_that_ships_is_found_by_its_name() -> None:
    assert fl.load_spec("stompp-ste").as_data() == fl.load_spec("schedules/stompp-ste.yaml").as_data()


def test_a_name_that_does_not_ship_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError) as caught:
        fl.load_spec("vanila-ste")
    assert str(caught.value) == (
        "cannot read the spec vanila-ste: No such file or directory\n"
        "  no spec of this name ships with frostline\n"
        '    -> did you mean "vanilla-ste"?'
    )
