"""Counts: parameters, FLOPs and bytes of a design, in whole numbers, before any weight exists.

Every learned number is counted, norms and routers too; a tied embedding is counted once. *Active* is what
one token touches: everything but the experts that it does not choose. The embedding is active as a whole,
as in the paper, although a token reads one row of it; the *body* leaves out embedding and head.

The sizes that the paper lists follow the same rule without its norms, and its active sizes leave out the
routers too: they are ``total - norms`` and ``active - norms - routers`` at a tied vocabulary of 32,000.
"""

from __future__ import annotations

from dataclasses import dataclass

from parrotlab.kernels.linear_cross_entropy import LARGE
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.routers.hashed import Hashed
from parrotlab.model.transformer import Transformer

FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a design costs. A FLOP is an addition or a multiplication: 2 for each weight that a token meets."""

    total: int
    """Parameters."""
    active: int
    """Parameters that one token touches."""
    total_body: int
    """``total`` without embedding and head."""
    active_body: int
    """``active`` without embedding and head."""
    norms: int
    """Parameters of the norms, a part of all four above."""
    routers: int
    """Parameters of the routers, a part of all four above."""
    multiplied: int
    """Weights in the matrix products of one token: active ones, the head even if tied, no embedding, no norms."""
    mixed: int
    """Channels of all heads of all layers: what attention compares and gathers at each position it looks at."""
    kept: int
    """Numbers that one token leaves for the backward pass, by the formula at ``_kept``."""
    kept_exactly: int
    """Further ones, which autocast leaves in float32: routers' scores and a small vocabulary's logits, each before and
    after its softmax."""

    def forward_flops_per_token(self, length: int) -> int:
        """Matrix products, and attention over rows of ``length`` tokens; norms and activations are left out.

        A token looks at (length + 1) / 2 positions on average, itself among them; at each of them a channel
        costs 2 FLOPs for the score and 2 for the value. Kernels that do not skip later tokens do more.
        """
        return 2 * self.multiplied + 2 * self.mixed * (length + 1)

    def training_flops_per_token(self, length: int) -> int:
        """Three times the forward's: the backward pass multiplies by the weights and by the inputs."""
        return 3 * self.forward_flops_per_token(length)

    @property
    def weight_bytes(self) -> int:
        """The weights in float32."""
        return FLOAT32_BYTES * self.total

    @property
    def optimizer_bytes(self) -> int:
        """What training adds to the weights: a gradient and AdamW's two moments, all float32."""
        return 3 * FLOAT32_BYTES * self.total

    def activation_bytes(self, tokens: int, bytes_per_value: int = FLOAT32_BYTES) -> int:
        """What ``tokens`` tokens keep for the backward pass; ``bytes_per_value`` is 2 under autocast.

        Of a compiled step, within 15% at the studies' sizes (benchmarks/memory.py); an eager one keeps up to twice it.
        """
        return tokens * (self.kept * bytes_per_value + self.kept_exactly * FLOAT32_BYTES)

    def row(self, length: int) -> dict[str, int]:
        """The counts as a table of runs holds them."""
        return {
            "total_parameters": self.total,
            "active_parameters": self.active,
            "total_body_parameters": self.total_body,
            "active_body_parameters": self.active_body,
            "forward_flops_per_token": self.forward_flops_per_token(length),
            "training_flops_per_token": self.training_flops_per_token(length),
            "weight_bytes": self.weight_bytes,
            "optimizer_bytes": self.optimizer_bytes,
        }


def count(design: Transformer, vocabulary: int) -> Counts:
    """What a design costs, from the spec alone."""
    layers, width = design.layers, design.width
    attention = width * sum(design.attention.columns(width)) + width * width
    experts, chosen, router = _feedforward(design)
    norms = width * (2 * layers + 1) + 2 * layers * _channels(design) * design.attention.qk_norm
    ends = vocabulary * width * (1 if design.tied else 2)
    matrices = layers * (attention + chosen + router)
    active_body = matrices + norms
    total_body = active_body + layers * (experts - chosen)
    return Counts(
        total=total_body + ends,
        active=active_body + ends,
        total_body=total_body,
        active_body=active_body,
        norms=norms,
        routers=layers * router,
        multiplied=matrices + vocabulary * width,
        mixed=layers * width,
        kept=_kept(design, vocabulary),
        kept_exactly=2 * (layers * getattr(design.feedforward, "experts", 0) + vocabulary * (vocabulary < LARGE)),
    )


def _feedforward(design: Transformer) -> tuple[int, int, int]:
    """Weights of one feed-forward: of all its experts, of those that serve one token, and of its router."""
    width, feedforward = design.width, design.feedforward
    assert isinstance(feedforward, (Dense, Mixture)), f"count() has to learn what a {type(feedforward).__name__} weighs"
    one = (3 if feedforward.gated else 2) * width * feedforward.hidden(width)
    if isinstance(feedforward, Dense):
        return one, one, 0
    router = 0 if isinstance(feedforward.router, Hashed) else width * feedforward.experts
    shared = feedforward.shared
    return one * (feedforward.experts + shared), one * (feedforward.active + shared), router


def _channels(design: Transformer) -> int:
    return design.width // design.attention.heads


def _kept(design: Transformer, vocabulary: int) -> int:
    """Numbers kept a token: in each layer the inputs and outputs of two norms, queries, keys and values before and
    after their rotation (and norm), what attention gathered, for each of the token's experts its hidden layer before
    and after the activation (two halves and their product if gated); in a mixture also each expert's input and output;
    at the end the last norm's input and output, and of a large vocabulary, whose logits are not kept, the gradient by
    that output.
    """
    width, feedforward = design.width, design.feedforward
    assert isinstance(feedforward, (Dense, Mixture))
    columns = sum(design.attention.columns(width))
    hidden = (3 if feedforward.gated else 2) * feedforward.hidden(width)
    layer = 5 * width + (3 if design.attention.qk_norm else 2) * columns
    if isinstance(feedforward, Mixture):
        layer += feedforward.active * (hidden + 2 * width) + feedforward.shared * hidden
    else:
        layer += hidden
    return design.layers * layer + (3 if vocabulary >= LARGE else 2) * width
