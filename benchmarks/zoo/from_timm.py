"""The models of timm, each the smallest of its family, with ten classes and small images: nothing is downloaded."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.zoo.entry import Entry, Example
from benchmarks.zoo.torchvision_operators import define_torchvision_operators

# The model takes images of any size: they are as small as its last stage allows.
ANY_SIZE: Mapping[str, int] = {
    "convmixer_768_32": 32,
    "convnext_zepto_rms": 32,
    "convnextv2_atto": 32,
    "cpubone_nano": 64,
    "cs3darknet_focus_s": 64,
    "csatv2": 64,
    "cspresnet50": 64,
    "davit_tiny": 64,
    "densenet121": 32,
    "dla46_c": 64,
    "dpn48b": 32,
    "eca_resnet33ts": 32,
    "edgenext_xx_small": 64,
    "efficientnet_lite0": 32,
    "efficientnetv2_rw_t": 32,
    "efficientvit_b0": 64,
    "ese_vovnet19b_slim": 32,
    "fasternet_t0": 32,
    "fastvit_t8": 64,
    "fbnetc_100": 32,
    "gcresnext26ts": 64,
    "gernet_s": 32,
    "ghostnet_050": 32,
    "ghostnetv2_100": 64,
    "hardcorenas_a": 32,
    "hgnetv2_b0": 32,
    "hrnet_w18_small": 64,
    "iformer_t": 64,
    "inception_next_atto": 64,
    "lambda_resnet26t": 64,
    "lcnet_035": 32,
    "lowformer_b0": 64,
    "mambaout_femto": 32,
    "mixnet_s": 32,
    "mnasnet_small": 32,
    "mobilenetv2_035": 32,
    "mobilenetv3_small_050": 32,
    "mobilenetv4_conv_small_035": 32,
    "mobileone_s0": 32,
    "mobilevit_xxs": 64,
    "mobilevitv2_050": 64,
    "nf_regnet_b0": 32,
    "nf_resnet26": 32,
    "poolformerv2_s12": 64,
    "pvt_v2_b0": 64,
    "regnetx_002": 32,
    "regnety_002": 32,
    "repghostnet_050": 32,
    "repvgg_a0": 32,
    "repvit_m0_9": 64,
    "res2net50_14w_8s": 32,
    "resnest14d": 32,
    "resnet10t": 32,
    "resnet18": 32,
    "resnetv2_18": 32,
    "resnext26ts": 32,
    "rexnetr_100": 32,
    "selecsls42b": 64,
    "shvit_s1": 64,
    "skresnet18": 32,
    "starnet_s050": 32,
    "swiftformer_xs": 64,
    "tiny_vit_5m_224": 64,
    "tinynet_e": 64,
    "tresnet_m": 64,
    "xception41": 64,
}

# The model is built for one size of image; where its depth can be told, it is small.
SIZED: Mapping[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"img_size": 64, "depth": 2, "embed_dim": 64, "num_heads": 4},
    "cait_xxs24_224": {"img_size": 64, "depth": 2},
    "coat_lite_tiny": {"img_size": 64},
    "convit_tiny": {"img_size": 64, "depth": 3, "local_up_to_layer": 2},
    "coatnet_pico_rw_224": {"img_size": 64},
    "crossvit_9_240": {"img_size": 120},
    "deit3_small_patch16_224": {"img_size": 64, "depth": 2},
    "deit_tiny_distilled_patch16_224": {"img_size": 64, "depth": 2},
    "efficientformerv2_s0": {"img_size": 64},
    "efficientvit_m0": {"img_size": 64},
    "eva02_tiny_patch14_224": {"img_size": 56, "depth": 2},
    "gcvit_xxtiny": {"img_size": 64},
    "gmlp_ti16_224": {"img_size": 64},
    "hiera_tiny_224": {"img_size": 64},
    "levit_128s": {"img_size": 64},
    "maxvit_rmlp_pico_rw_256": {"img_size": 64},
    "mixer_s32_224": {"img_size": 64},
    "mvitv2_tiny": {"img_size": 64},
    "nest_tiny": {"img_size": 64},
    "pit_ti_224": {"img_size": 64},
    "resmlp_12_224": {"img_size": 64},
    "samvit_base_patch16": {"img_size": 64, "depth": 2, "embed_dim": 64, "num_heads": 4, "global_attn_indexes": [1]},
    "sequencer2d_s": {"img_size": 64, "layers": [1, 1, 1, 1]},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "depths": [1, 1, 2, 1], "window_size": 2},
    "swinv2_tiny_window8_256": {"img_size": 64, "depths": [1, 1, 2, 1], "window_size": 2},
    "swinv2_cr_tiny_224": {"img_size": 64, "depths": [1, 1, 2, 1], "window_size": 2},
    "tnt_s_patch16_224": {"img_size": 64, "depth": 2},
    "twins_svt_small": {"img_size": 64, "depths": [1, 1, 2, 1]},
    "visformer_tiny": {"img_size": 64},
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 2},
    "vit_relpos_small_patch16_224": {"img_size": 64, "depth": 2},
    "vit_tiny_r_s16_p8_224": {"img_size": 64, "depth": 2},
    "vitamin_small_224": {"img_size": 64},
    "volo_d1_224": {"img_size": 64},
    "xcit_nano_12_p16_224": {"img_size": 64, "depth": 2},
    "naflexvit_base_patch16_gap": {"img_size": 64, "depth": 2, "embed_dim": 64, "num_heads": 4},
}


def entries() -> list[Entry]:
    """One entry a model; none where timm is not installed."""
    if find_spec("timm") is None:
        return []
    calls: list[tuple[str, int, dict[str, Any]]] = [(name, side, {}) for name, side in ANY_SIZE.items()]
    calls += [(name, settings["img_size"], settings) for name, settings in SIZED.items()]
    return [
        Entry(f"timm/{name}", "timm", functools.partial(_make, name, side, settings)) for name, side, settings in calls
    ]


def _make(name: str, side: int, settings: Mapping[str, Any]) -> Example:
    define_torchvision_operators()
    timm = importlib.import_module("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10, **settings)
    return model, (torch.randn(2, 3, side, side),), {}
