from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import torch
from torch import nn

from frostline.adapters.checks import check_trained
from frostline.errors import UsageError
from tests.adapters.plain import program


@pytest.mark.parametrize(
    ("adapter", "library"),
    [("lightning", "lightning.pytorch"), ("transformers", "transformers"), ("accelerate", "accelerate")],
)
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, adapter: str, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"frostline.adapters.{adapter}", raising=False)
    with pytest.raises(UsageError, match=rf"{adapter} is not installed\n.*\n.*pip install 'frostline\[{adapter}\]'"):
        importlib.import_module(f"frostline.adapters.{adapter}")


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch.compile's own import
def test_the_net_may_lie_within_other_modules() -> None:
    one = program()
    compiled: Any = torch.compile(one.net)
    for model in (one.net, nn.Sequential(one.net), compiled, nn.DataParallel(one.net)):
        check_trained(one, model)
    with pytest.raises(UsageError, match="no part of the model that is trained"):
        check_trained(one, one.model)
