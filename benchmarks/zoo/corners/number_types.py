"""Half, double, complex, whole and boolean numbers, and limits of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.corners.corner import corner, tokens


class AutocastRegion(nn.Module):
    """The body runs in bfloat16 and the head in float32 again."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            x = torch.relu(self.body(x))
        with torch.autocast(x.device.type, enabled=False):
            return self.head(x.float())


class ThroughHalf(nn.Module):
    """Values lose digits on the way through half and bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.half().float())
        return x.to(torch.bfloat16).type_as(x)


class DoublePrecisionInside(nn.Module):
    """One part is computed in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.exact = nn.Linear(8, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.exact(self.body(x).double()).softmax(-1, dtype=torch.float32)


class MasksBecomeNumbers(nn.Module):
    """Comparisons, logic on masks, where with a number, and masks as factors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        inside = (y > -0.5) & (y < 0.5) | y.isnan()
        y = torch.where(inside, y, 0.25 * y)
        return y * (~inside).float() + inside.to(y.dtype).mean() + (y.sign() == 1).sum() / y.numel()


class RotaryByComplex(nn.Module):
    """Rotary positions as a product of complex numbers: view_as_complex, polar, slices."""

    turns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(12, 8)
        angles = torch.outer(torch.arange(16.0), 1 / 100 ** (torch.arange(4) / 4))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(self.query(x).float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns[: x.size(1)]).flatten(-2).type_as(x)


class FourierMixing(nn.Module):
    """The real part of a Fourier transform over tokens and channels (FNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.body = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + torch.fft.fft2(x, dim=(-2, -1)).real)
        return x + self.body(x)


class SpectralConvolution(nn.Module):
    """A complex weight multiplies the lowest frequencies, written into a slice (neural operators)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5, 4, dtype=torch.cfloat))
        self.skip = nn.Conv1d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        output = torch.zeros(x.size(0), 5, spectrum.size(-1), dtype=torch.cfloat, device=x.device)
        output[:, :, :4] = torch.einsum("bik,iok->bok", spectrum[:, :, :4], self.weight)
        return torch.fft.irfft(output, n=x.size(-1)) + self.skip(x)


class Spectrogram(nn.Module):
    """Sound becomes a spectrogram in forward, with a window in a buffer."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.conv = nn.Conv1d(9, 8, 3)

    def forward(self, sound: Tensor) -> Tensor:
        spectrum = torch.stft(sound, 16, hop_length=8, window=self.window, return_complex=True)
        return self.conv(spectrum.abs().square().clamp(min=1e-6).log10())


class ComplexOutput(nn.Module):
    """A complex tensor is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.real = nn.Linear(12, 8)
        self.imaginary = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(self.real(x), self.imaginary(x)).conj() * 1j


class WholeNumbersInside(nn.Module):
    """Division, remainder and shifts of token numbers choose two embeddings (hashing)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(5, 12)
        self.columns = nn.Embedding(4, 12)
        self.body = nn.Linear(12, 8)

    def forward(self, numbers: Tensor) -> Tensor:
        hashed = ((numbers << 1) ^ 3) % 20
        return self.body(self.rows(hashed // 4) * self.columns(torch.remainder(numbers, 4)))


class PacksBits(nn.Module):
    """Signs become bits and bits become bytes, beside a float path."""

    powers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 16)
        self.register_buffer("powers", 2 ** torch.arange(8, dtype=torch.uint8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        bits = (x > 0).to(torch.uint8).unflatten(-1, (2, 8))
        return (bits * self.powers).sum(-1, dtype=torch.uint8), torch.tanh(x)


class StableBySubtraction(nn.Module):
    """Softmax, logsumexp and a normal distribution's tail by hand, with constants of torch and Python."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = 0.5 * x * (1 + torch.erf(x / 2**0.5))
        shifted = torch.exp(x - x.amax(-1, keepdim=True))
        return shifted / shifted.sum(-1, keepdim=True) - torch.logsumexp(x, -1, keepdim=True) + torch.pi


class ReversedOperators(nn.Module):
    """A number stands on the left of each operator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.body(x))
        return 1 - x + 2 / (1 + x) + 2**x + 3 // (x.detach() + 1) - 5 % (x.detach() + 1) + abs(-x) + sum([x, x**2])


class Quantile(nn.Module):
    """Activations are clipped at a quantile of themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.body(x), approximate="tanh")
        limit = torch.quantile(x.detach().abs(), 0.9, dim=-1, keepdim=True)
        return self.head(torch.minimum(torch.maximum(x, -limit), limit))


ENTRIES = [
    corner(AutocastRegion, (2, 12)),
    corner(ThroughHalf, (2, 12)),
    corner(DoublePrecisionInside, (2, 12)),
    corner(MasksBecomeNumbers, (2, 12)),
    corner(RotaryByComplex, (2, 5, 12)),
    corner(FourierMixing, (2, 5, 12)),
    corner(SpectralConvolution, (2, 3, 12)),
    corner(Spectrogram, (2, 64)),
    corner(ComplexOutput, (2, 12)),
    corner(WholeNumbersInside, tokens(2, 5)),
    corner(PacksBits, (2, 12)),
    corner(StableBySubtraction, (2, 12)),
    corner(ReversedOperators, (2, 12)),
    corner(Quantile, (2, 12)),
]
