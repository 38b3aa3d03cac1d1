"""Sparse upcycling: a dense model becomes a mixture that computes the same function (arXiv:2212.05055)."""

from __future__ import annotations

import dataclasses

import torch

from parrotlab.model.feedforwards.dense import Dense, DenseLayer
from parrotlab.model.feedforwards.mixture import Mixture, MixtureLayer
from parrotlab.model.routers.top_k import TopKRouter
from parrotlab.model.transformer import LanguageModel
from parrotlab.seeds import stream

ROUTER_SCALE = 0.02
"""Standard deviation of a fresh router's weights: small, so that choices differ and no expert weighs much more."""


def upcycle(dense: LanguageModel, experts: int, active: int, seed: int = 0) -> LanguageModel:
    """A mixture whose experts all are the dense feed-forward; the seed draws its routers.

    The weights of the chosen experts sum to 1, so equal experts act as the one they are copies of.
    """
    feedforward = dense.design.feedforward
    if not isinstance(feedforward, Dense):
        raise ValueError(f"only a dense model can be upcycled, not one of {type(feedforward).__name__} feed-forwards")
    assert not dense.stack, "upcycle the replicas of a stack one by one"
    mixture = Mixture(experts=experts, active=active, expansion=feedforward.expansion, gated=feedforward.gated)
    design = dataclasses.replace(dense.design, feedforward=mixture)
    sparse = LanguageModel(design, dense.vocabulary).to(dense.embedding_VD.device)
    sparse.load_state_dict(dense.state_dict(), strict=False)  # all but the feed-forwards, which follow
    with torch.no_grad():
        for layer, (new, old) in enumerate(zip(sparse.blocks, dense.blocks)):
            target, source = new.feedforward, old.feedforward
            assert isinstance(target, MixtureLayer)
            assert isinstance(source, DenseLayer)
            assert isinstance(target.router, TopKRouter)
            target.up_EDG.copy_(source.up_DG)
            target.down_EFD.copy_(source.down_FD)
            router_DE = target.router.weight_DE
            random = stream("upcycle", seed, layer).standard_normal(tuple(router_DE.shape), dtype="float32")
            router_DE.copy_(torch.from_numpy(ROUTER_SCALE * random))
    return sparse
