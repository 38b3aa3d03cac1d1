"""The decoder-only transformer: a Mistral when its feed-forwards are dense, a Mixtral when they are mixtures.

The same module is one model, or a stack of R replicas that share nothing but the launch of their products:
then every weight, and every tensor of activations, has a leading dimension R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parrotlab.kernels import linear_cross_entropy
from parrotlab.model.attention import Attention, AttentionLayer, Gather, rotation, turns
from parrotlab.model.cache import Cache
from parrotlab.model.feedforwards.feedforward import Feedforward, Routing
from parrotlab.model.loss import mean_loss, mean_loss_by_chunks
from parrotlab.model.norm import RMSNorm
from parrotlab.seeds import stream

ONE_HOT = 256
"""Up to this vocabulary a GPU embeds by a product: a lookup's backward piles its additions up on few rows."""


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """Pre-normalised blocks of attention and a feed-forward."""

    layers: int
    width: int
    """D, channels of the residual stream."""
    attention: Attention
    feedforward: Feedforward
    tied: bool = False
    """The head is the embedding, transposed."""
    epsilon: float = 1e-5
    """Of the norms."""

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise ValueError(f"a transformer needs layers and width of at least 1, not {self.layers} and {self.width}")
        self.attention.columns(self.width)
        self.feedforward.hidden(self.width)


class LanguageModel(nn.Module):
    """Tokens in, logits of the next token out. ``stack`` is () for one model, (R,) for R replicas."""

    def __init__(self, design: Transformer, vocabulary: int, stack: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.design, self.vocabulary, self.stack = design, vocabulary, stack
        self.embedding_VD = nn.Parameter(torch.empty(*stack, vocabulary, design.width))
        self.blocks = nn.ModuleList(Block(design, stack) for _ in range(design.layers))
        self.norm = RMSNorm(design.width, design.epsilon, stack)
        if not design.tied:
            self.head_DV = nn.Parameter(torch.empty(*stack, design.width, vocabulary))

    def forward(self, tokens_BT: Tensor) -> tuple[Tensor, list[Routing]]:
        """[*R, B, T] tokens -> [*R, B, T, V] logits, and the routing of each mixture layer."""
        x_ND, routings = self.hidden(tokens_BT)
        return self.unembed(x_ND).unflatten(-2, tokens_BT.shape[-2:]), routings

    def loss(self, tokens_BT: Tensor, asked_BT: Tensor) -> tuple[Tensor, list[Routing]]:
        """[*R] nats a token of the rows that is asked for, from those before it; and the routings."""
        x_ND, routings = self.hidden(tokens_BT[..., :-1])
        return self.score(x_ND, tokens_BT, asked_BT), routings

    def hidden(self, tokens_BT: Tensor, cache: Cache | None = None) -> tuple[Tensor, list[Routing]]:
        """[*R, B, T] tokens -> [*R, N, D] what ``unembed`` turns into logits, and each mixture layer's routing.

        With a cache (one model, no stack), the tokens stand and look where it says: behind what it has seen before.
        """
        tokens_N = tokens_BT.flatten(-2)
        x_ND = self.embed(tokens_N)
        attention, channels = self.design.attention, self.design.width // self.design.attention.heads
        if cache is None:
            angles = rotation(tokens_BT.shape[-1], channels, attention.rope_theta, x_ND.device)
        else:
            angles = turns(cache.positions_BT.unsqueeze(1), channels, attention.rope_theta)
        routings = []
        for layer, block in enumerate(self.blocks):
            gather = partial(cache.gather, layer) if cache else None
            x_ND, routing = block(x_ND, tokens_N, angles, gather)
            if routing is not None:
                routings.append(routing)
        return x_ND, routings

    def embed(self, tokens_N: Tensor) -> Tensor:
        """[*R, N] tokens -> [*R, N, D] in the weights' precision."""
        if self.vocabulary <= ONE_HOT and tokens_N.is_cuda:
            one_hot_NV = F.one_hot(tokens_N, self.vocabulary).to(self.embedding_VD.dtype)
            return (one_hot_NV @ self.embedding_VD).to(self.embedding_VD.dtype)
        if not self.stack:
            return F.embedding(tokens_N, self.embedding_VD)
        offsets = self.vocabulary * torch.arange(self.stack[0], device=tokens_N.device)
        return F.embedding(tokens_N + offsets.unsqueeze(-1), self.embedding_VD.flatten(0, 1))

    def unembed(self, x_ND: Tensor) -> Tensor:
        """[*R, N, D] -> [*R, N, V] logits."""
        return self.norm(x_ND) @ self.head

    def score(self, x_ND: Tensor, tokens_BT: Tensor, asked_BT: Tensor) -> Tensor:
        """[*R] the loss of rows of which ``hidden`` says x_ND."""
        if linear_cross_entropy.takes(x_ND, self.vocabulary):
            return mean_loss_by_chunks(self.norm(x_ND), self.head, tokens_BT, asked_BT)
        logits_BTV = self.unembed(x_ND).unflatten(-2, (tokens_BT.shape[-2], -1))
        return mean_loss(logits_BTV, tokens_BT, asked_BT)

    @property
    def head(self) -> Tensor:
        """[*R, D, V] what turns normed hidden states into logits."""
        return self.embedding_VD.mT if self.design.tied else self.head_DV

    def adjust_(self, routings: Sequence[Routing]) -> None:
        """Lets routers that follow their load see it; called after each training step."""
        for block, routing in zip(self.blocks, routings):
            adjust_ = getattr(getattr(block.feedforward, "router", None), "adjust_", None)
            if adjust_ is not None:
                adjust_(routing.choices_E)

    def replica(self, index: int) -> LanguageModel:
        """One of the stack as a plain model of its own, or a lone model's twin; it shares the memory."""
        with torch.device("meta"):
            lone = LanguageModel(self.design, self.vocabulary)
        state = self.state_dict()
        lone.load_state_dict({name: state[name][index] if self.stack else state[name] for name in state}, assign=True)
        return lone


class Block(nn.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x))."""

    def __init__(self, design: Transformer, stack: tuple[int, ...]) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(design.width, design.epsilon, stack)
        self.attention = AttentionLayer(design.attention, design.width, design.epsilon, stack)
        self.feedforward_norm = RMSNorm(design.width, design.epsilon, stack)
        self.feedforward = design.feedforward.build(design.width, stack)

    def forward(
        self, x_ND: Tensor, tokens_N: Tensor, angles: tuple[Tensor, Tensor], gather: Gather | None = None
    ) -> tuple[Tensor, Routing | None]:
        """[*R, N, D] -> [*R, N, D], and where the tokens went if they had a choice."""
        x_ND, normed_ND = self.attend(x_ND, angles, gather)
        y_ND, routing = self.feedforward(normed_ND, tokens_N)
        return x_ND + y_ND, routing

    def attend(
        self, x_ND: Tensor, angles: tuple[Tensor, Tensor], gather: Gather | None = None
    ) -> tuple[Tensor, Tensor]:
        """The half before the feed-forward: x + attention(norm(x)), and its norm."""
        x_ND = x_ND + self.attention(self.attention_norm(x_ND), angles, gather)
        return x_ND, self.feedforward_norm(x_ND)


def build(design: Transformer, vocabulary: int, seeds: int | Sequence[int], device: str = "cpu") -> LanguageModel:
    """A model with fresh weights, or a stack with one replica a seed, each equal to the model its seed gives alone."""
    alone = isinstance(seeds, int)
    model = LanguageModel(design, vocabulary, () if alone else (len(seeds),))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            for seed, target in [(seeds, weight)] if alone else zip(seeds, weight):
                target.copy_(fresh(design, name, target.shape, seed))
    return model.to(device)


def fresh(design: Transformer, name: str, shape: torch.Size, seed: int) -> Tensor:
    """Fresh weights: norms 1; matrices normal with variance 1 / inputs, so that families of many widths start alike.

    What is added to the residual stream is smaller by sqrt(2 · layers) (GPT-2). The paper's values are unknown.
    """
    if name.endswith("norm.weight_D"):
        return torch.ones(shape)
    scale = design.width**-0.5 if name == "embedding_VD" else shape[-2] ** -0.5
    if name.endswith(("out_KD", "down_FD", "down_EFD")):
        scale /= (2 * design.layers) ** 0.5
    weight = stream("weights", seed, name).standard_normal(tuple(shape), dtype="float32")
    return torch.from_numpy(weight).mul_(scale)
