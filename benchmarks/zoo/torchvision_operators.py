"""torchvision beside a PyTorch that its compiled operators were not built for.

`import torchvision` fails where its C++ library cannot be loaded, and with it go timm and half of transformers. Here
the operators that the models of the zoo call are defined in PyTorch, so that the same models run on any installation.
Where torchvision's own operators load, nothing is defined.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",  # torchvision only asks that it exists
)


@functools.cache
def define_torchvision_operators() -> None:
    """Make `import torchvision` possible, and detection models run on the CPU. Call before torchvision is imported.

    Does nothing where torchvision is not installed or brings its own operators.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _loads(Path(spec.origin).parent):
        return
    library = _library()
    for schema in _SCHEMAS:
        library.define(schema)
    library.impl("nms", keep_best_boxes, "CPU")

    # torchvision asks before each call whether its operators are there: they are now. Its roi_align asked once, at
    # import, and keeps to a version in PyTorch, which it would send through torch.compile on the first call.
    importlib.import_module("torchvision.extension").__dict__["_has_ops"] = lambda: True
    align = importlib.import_module("torchvision.ops.roi_align").__dict__
    align["_roi_align"] = align["_roi_align"].__wrapped__


@functools.cache
def _library() -> torch.library.Library:
    """The definitions; they live as long as this object."""
    return torch.library.Library("torchvision", "DEF")


def _loads(folder: Path) -> bool:
    """Can torchvision's own operators, whose compiled library lies in `folder`, be loaded?"""
    try:
        for path in folder.glob("_C.*"):
            torch.ops.load_library(str(path))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")


def keep_best_boxes(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression: the indices of the kept boxes, best score first.

    A box (x1, y1, x2, y2) is kept unless a kept box of a higher score overlaps it by more than `threshold`,
    measured as intersection over union.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [5.0, 5.0, 6.0, 6.0]])
    >>> keep_best_boxes(boxes, torch.tensor([0.5, 0.9, 0.1]), threshold=0.7)
    tensor([1, 2])
    """
    order = scores.argsort(descending=True, stable=True)
    best_first = boxes[order]
    corner, opposite = best_first[:, :2], best_first[:, 2:]
    sides = (torch.minimum(opposite[:, None], opposite) - torch.maximum(corner[:, None], corner)).clamp(min=0)
    areas, shared = (opposite - corner).prod(dim=1), sides.prod(dim=2)
    overlaps = (shared / (areas[:, None] + areas - shared) > threshold).tolist()
    kept: list[int] = []
    for index, row in enumerate(overlaps):
        if not any(row[better] for better in kept):
            kept.append(index)
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]
