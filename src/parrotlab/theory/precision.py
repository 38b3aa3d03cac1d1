"""Numbers of p bits, and a one-layer model whose every number has p bits: what the theorems call its precision.

A number of p bits is a sign, ceil(log2 p) + 1 bits of exponent and the rest of fraction, with gradual underflow and
no infinities: what is too large becomes the largest. At 16 bits it is IEEE half precision, at 8 its layout is E4M3. Its
magnitudes reach at least from 2^(2 - p) to 2^(p - 1), so p = O(log N) bits hold numbers polynomial in N.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from parrotlab.kernels.activation import activate
from parrotlab.model.attention import rotate, rotation
from parrotlab.model.feedforwards.dense import DenseLayer
from parrotlab.model.transformer import Block, LanguageModel

LEAST_BITS, MOST_BITS = 4, 32
"""Below 4 bits no exponent fits; above 32 the float64 in which we compute would round once more."""


def exponent_bits(bits: int) -> int:
    """Bits of the exponent of a number of p bits."""
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"a number has {LEAST_BITS} to {MOST_BITS} bits, not {bits}")
    return math.ceil(math.log2(bits)) + 1


def rounded(x: Tensor, bits: int) -> Tensor:
    """The nearest numbers of p bits, ties to even."""
    exponent, fraction = exponent_bits(bits), bits - 1 - exponent_bits(bits)
    largest = (2 - 2.0**-fraction) * 2.0 ** (2 ** (exponent - 1) - 1)
    grid = torch.ldexp(torch.ones_like(x), _exponent(x, exponent) - fraction)
    return ((x / grid).round() * grid).clamp(-largest, largest) + 0.0  # + 0.0: there is one zero


def encode(x: Tensor, bits: int) -> Tensor:
    """Numbers of p bits as integers from 0 to 2^p - 1: sign, exponent, fraction. Refuses what p bits do not hold."""
    if not torch.equal(rounded(x, bits), x):
        raise ValueError(f"these numbers do not fit in {bits} bits: round them first")
    exponent = exponent_bits(bits)
    fraction, power = bits - 1 - exponent, _exponent(x, exponent)
    steps = torch.ldexp(x.abs(), fraction - power).long()  # from 2^fraction, but for the subnormal
    magnitude = ((power - _least_exponent(exponent)).long() << fraction) + steps
    return magnitude + ((x < 0).long() << (bits - 1))


def decode(codes: Tensor, bits: int) -> Tensor:
    """The numbers, in float64, whose codes these are."""
    exponent = exponent_bits(bits)
    fraction = bits - 1 - exponent
    magnitude = codes & ((1 << (bits - 1)) - 1)
    power = (magnitude >> fraction).clamp(min=1) - 1
    steps = (magnitude - (power << fraction)).double()
    return torch.ldexp(steps, power + _least_exponent(exponent) - fraction) * (1 - 2 * (codes >> (bits - 1)))


class Message(NamedTuple):
    """What a group of tokens tells the last position: H heads of one weight and one mean each."""

    log_weight_BH: Tensor
    """log Σ exp(score): how much the group weighs against others."""
    mean_BHC: Tensor
    """The group's values, averaged under its own softmax."""


class Rounded:
    """A one-layer model at p bits, asked for its logits at the last position, whose token everybody knows.

    Every weight is rounded once. The tokens before the last come in groups; each group is summed up in a ``Message``,
    and the messages are weighed against each other: the softmax of attention, computed by blocks. Every result is
    rounded to p bits: norms, projections, rotations, scores, messages, both sums of the residual stream, the hidden
    layer of a dense feed-forward, a mixture's output, logits. In between sums are exact to float64.
    """

    def __init__(self, model: LanguageModel, bits: int) -> None:
        if model.design.layers != 1:
            raise ValueError(f"the protocol is for models of 1 layer, not {model.design.layers}")
        assert not model.stack, "a stack is asked replica by replica"
        self.bits, self.design = bits, model.design
        self.model = copy.deepcopy(model).double()
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.copy_(self._round(weight))

    @torch.no_grad()
    def message(self, tokens_BP: Tensor, positions_P: Tensor, last_token: int, last: int) -> Message:
        """What P tokens at their positions tell position ``last``; a function of them and of nothing else."""
        query_H1C, _, _ = self._project(torch.tensor([last_token]), torch.tensor([last]))
        # Each token is projected once at each place where it stands, for few differ among the B rows.
        seen_U, which_BP = (tokens_BP * (last + 1) + positions_P).unique(return_inverse=True)
        _, key_HUC, value_HUC = self._project(seen_U // (last + 1), seen_U % (last + 1))
        score_HU = self._round((query_H1C @ key_HUC.mT).squeeze(-2) / math.sqrt(key_HUC.shape[-1]))
        score_BHP = score_HU[:, which_BP].transpose(0, 1)
        share_BHP, value_HBPC = score_BHP.softmax(dim=-1), value_HUC[:, which_BP]
        mean_BHC = torch.einsum("bhp,hbpc->bhc", share_BHP, value_HBPC)
        return Message(self._round(score_BHP.logsumexp(dim=-1)), self._round(mean_BHC))

    @torch.no_grad()
    def logits(self, messages: Sequence[Message], last_token: int) -> Tensor:
        """[B, V] what the last position answers to the messages of all groups, its own among them."""
        block = self._block
        weights_BHG = torch.stack([message.log_weight_BH for message in messages], dim=-1).softmax(dim=-1)
        means_BHGC = torch.stack([message.mean_BHC for message in messages], dim=-2)
        gathered_BHC = self._round((weights_BHG.unsqueeze(-2) @ means_BHGC).squeeze(-2))
        x_D = self._round(self.model.embedding_VD[last_token])
        x_BD = self._round(x_D + self._round(gathered_BHC.flatten(-2) @ block.attention.out_KD))
        y_BD = self._feedforward(self._round(block.feedforward_norm(x_BD)), torch.full((len(x_BD),), last_token))
        x_BD = self._round(self.model.norm(self._round(x_BD + y_BD)))
        return self._round(x_BD @ (self.model.embedding_VD.mT if self.design.tied else self.model.head_DV))

    @property
    def _block(self) -> Block:
        block = self.model.blocks[0]
        assert isinstance(block, Block)
        return block

    def _round(self, x: Tensor) -> Tensor:
        return rounded(x, self.bits)

    def _project(self, tokens_U: Tensor, positions_U: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys at their angles, and values, of U tokens where they stand: [H, U, C] each."""
        attention, design = self._block.attention, self.design.attention
        x_UD = self._round(self._block.attention_norm(self.model.embedding_VD[tokens_U]))
        parts = self._round(x_UD @ attention.qkv_DK).split(attention.columns, dim=-1)
        channels = self.design.width // design.heads
        query, key, value = (part.unflatten(-1, (-1, channels)).transpose(0, 1) for part in parts)
        if design.qk_norm:
            query, key = self._round(attention.query_norm(query)), self._round(attention.key_norm(key))
        turns = rotation(int(positions_U.max()) + 1, channels, design.rope_theta, tokens_U.device)
        angles = (turns[0][positions_U].double(), turns[1][positions_U].double())
        query, key = self._round(rotate(query, angles)), self._round(rotate(key, angles))
        return query, key.repeat_interleave(design.group, 0), value.repeat_interleave(design.group, 0)

    def _feedforward(self, x_BD: Tensor, tokens_B: Tensor) -> Tensor:
        layer = self._block.feedforward
        if isinstance(layer, DenseLayer):
            hidden_BF = self._round(activate(self._round(x_BD @ layer.up_DG), layer.gated))
            return self._round(hidden_BF @ layer.down_FD)
        return self._round(layer(x_BD, tokens_B)[0])


def _least_exponent(exponent: int) -> int:
    return 2 - 2 ** (exponent - 1)


def _exponent(x: Tensor, exponent: int) -> Tensor:
    """floor(log2 |x|) as int32, but no less than the format has; that least one for 0."""
    least = _least_exponent(exponent)
    return (torch.frexp(x).exponent - 1).clamp(min=least).where(x != 0, least)
