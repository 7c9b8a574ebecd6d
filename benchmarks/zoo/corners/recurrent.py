"""Recurrence, by torch's modules and by loops."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.zoo.corners.corner import corner, tokens


class AroundLSTM(nn.Module):
    """Linear layers before and after a bidirectional LSTM, whose own weights no graph shows as sites."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, bidirectional=True, dropout=0.1, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(torch.relu(self.stem(x)))
        return self.head(y[:, -1])


class AroundGRU(nn.Module):
    """A GRU with time first and a first state made from the batch size; the last state is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.gru = nn.GRU(8, 6, num_layers=2)
        self.head = nn.Linear(6, 4)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(numbers).transpose(0, 1)
        _, state = self.gru(x, x.new_zeros(2, numbers.size(0), 6))
        return self.head(state[-1]), state


class StateGivenAndReturned(nn.Module):
    """The state of an LSTM is an argument, None at first, and part of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, last = self.lstm(x, state)
        return self.head(x), last


class PackedSequences(nn.Module):
    """Sentences of different lengths are packed for an LSTM; the lengths are read in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, numbers: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(numbers), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(y.sum(1))


class CellLoop(nn.Module):
    """A GRUCell in a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.size(0), self.cell.hidden_size, device=x.device)
        for step in range(x.size(1)):
            state = self.cell(x[:, step], state)
        return self.head(state)


class CellByHand(nn.Module):
    """An LSTM cell of linear layers: the same two sites at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.from_input = nn.Linear(12, 32)
        self.from_state = nn.Linear(8, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros((x.shape[0], 8))
        outputs = []
        for gates in self.from_input(x).unbind(1):
            enter, forget, candidate, leave = (gates + self.from_state(hidden)).chunk(4, dim=1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
            hidden = leave.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1)


class ConvolutionalRecurrence(nn.Module):
    """A recurrent cell of convolutions over frames; the state is None before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(3 + 4, 8, 3, padding=1)
        self.candidate = nn.Conv2d(3 + 4, 4, 3, padding=1)

    def forward(self, video: Tensor) -> Tensor | None:
        state = None
        for frame in video.unbind(dim=1):
            if state is None:
                state = torch.zeros(frame.size(0), 4, *frame.shape[2:], device=frame.device)
            update, reset = torch.sigmoid(self.gates(torch.cat([frame, state], 1))).chunk(2, 1)
            candidate = torch.tanh(self.candidate(torch.cat([frame, reset * state], 1)))
            state = torch.lerp(state, candidate, update)
        return state


class DecodesGreedily(nn.Module):
    """Each step's best token is the next step's input."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.cell = nn.LSTMCell(8, 8)
        self.head = nn.Linear(8, 20)

    def forward(self, start: Tensor, steps: int = 4) -> tuple[Tensor, Tensor]:
        token, state, logits, chosen = start, None, [], []
        for _ in range(steps):
            state = self.cell(self.embed(token), state)
            logits.append(self.head(state[0]))
            token = logits[-1].argmax(-1)
            chosen.append(token)
        return torch.stack(logits, dim=1), torch.stack(chosen, dim=1)


class StateSpaceScan(nn.Module):
    """A diagonal state space with steps from the input, scanned in Python (Mamba)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(12, 8 + 4 + 4)
        self.log_decay = nn.Parameter(torch.randn(8, 4))
        self.skip = nn.Parameter(torch.ones(8))
        self.signal = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        signal = self.signal(x)
        step, enter, leave = self.project(x).split([8, 4, 4], dim=-1)
        step = nn.functional.softplus(step)
        decay = torch.exp(-step.unsqueeze(-1) * self.log_decay.exp())
        drive = (step * signal).unsqueeze(-1) * enter.unsqueeze(2)
        state = torch.zeros_like(drive[:, 0])
        outputs = []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + drive[:, t]
            outputs.append((state * leave[:, t, None]).sum(-1))
        return torch.stack(outputs, dim=1) + signal * self.skip


ENTRIES = [
    corner(AroundLSTM, (2, 5, 12)),
    corner(AroundGRU, tokens(2, 5)),
    corner(StateGivenAndReturned, (2, 5, 12)),
    corner(PackedSequences, tokens(2, 5), lambda: torch.tensor([3, 5])),
    corner(CellLoop, (2, 5, 12)),
    corner(CellByHand, (2, 5, 12)),
    corner(ConvolutionalRecurrence, (2, 4, 3, 6, 6)),
    corner(DecodesGreedily, tokens(2)),
    corner(StateSpaceScan, (2, 5, 12)),
]
