"""The rewrites, one a file. `FREEZING` is the list that turns a settled graph into a binary one."""

from frostline.compiler.rewriting import Pass
from frostline.passes.close_modules import CloseModules, OpenModules
from frostline.passes.drop_unread import DropUnread
from frostline.passes.estimate_batch_norm import EstimateBatchNorm
from frostline.passes.fold_batch_norm import FoldBatchNorm
from frostline.passes.freeze_masks import FreezeMasks
from frostline.passes.insert_masks import InsertMasks
from frostline.passes.lift_scales import LiftScales
from frostline.passes.pack_weights import PackWeights
from frostline.passes.round_weights import RoundWeights
from frostline.passes.settle_ties import SettleTies
from frostline.passes.split_batch_norm import SplitBatchNorm
from frostline.passes.split_bias import SplitBias
from frostline.passes.use_kernels import UseKernels
from frostline.passes.use_linear import UseLinear

FREEZING: tuple[Pass, ...] = (
    FreezeMasks(), LiftScales(), DropUnread(), SettleTies(), UseLinear(), SplitBias(), FoldBatchNorm(),
    SplitBatchNorm(), PackWeights(),
)  # fmt: skip

__all__ = [
    "FREEZING",
    "CloseModules",
    "DropUnread",
    "EstimateBatchNorm",
    "FoldBatchNorm",
    "FreezeMasks",
    "InsertMasks",
    "LiftScales",
    "OpenModules",
    "PackWeights",
    "RoundWeights",
    "SettleTies",
    "SplitBatchNorm",
    "SplitBias",
    "UseKernels",
    "UseLinear",
]
