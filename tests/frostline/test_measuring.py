from __future__ import annotations

import torch

from frostline.measuring import samples

CPU = torch.device("cpu")


def test_samples_come_from_all_over_the_batches() -> None:
    batches = [(torch.arange(10.0).reshape(10, 1) + 10 * index, torch.arange(10) + 10 * index) for index in range(3)]
    x, y = samples(batches, 9, CPU)
    assert y.tolist() == [0, 4, 9, 10, 14, 19, 20, 24, 29]
    assert torch.equal(x[:, 0].long(), y)
    assert len(samples(batches, 1000, CPU)[1]) == 30


def test_samples_have_one_shape_and_draw_no_random_number() -> None:
    data = torch.utils.data.TensorDataset(torch.zeros(6, 2), torch.arange(6))
    before = torch.get_rng_state()
    samples(torch.utils.data.DataLoader(data, 2, shuffle=True), 4, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    x, y = samples([(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 4), torch.ones(2))], 4, CPU)
    assert (x.shape, y.tolist()) == ((2, 3), [0, 0])
