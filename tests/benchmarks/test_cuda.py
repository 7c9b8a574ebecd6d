from __future__ import annotations

from benchmarks.cuda import layers


def test_the_layers_are_those_of_resnet50_without_its_stem_and_classifier() -> None:
    found = layers()
    assert sum(found.values()) == 52
    assert sum(layer.products(1) * count for layer, count in found.items()) == 4_089_184_256 - 118_013_952 - 2_048_000
