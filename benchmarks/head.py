"""The last norm, the head and the loss over a large vocabulary, forward and backward: with all logits, and by chunks.

    PYTHONPATH=src python benchmarks/head.py [--output FILE]

on a machine with a GPU. Ours are compiled and timed as a replayed graph, as in a training step. Liger's fused linear
cross-entropy, where liger-kernel is installed, waits for numbers on the host, and is launched by it; its norm is ours,
its head is rounded to bfloat16 beforehand and its gradient of the head is added up in float32.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _facts import write
from _timing import milliseconds, peak_bytes

from parrotlab.kernels import linear_cross_entropy
from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.loss import mean_loss
from parrotlab.model.transformer import LanguageModel, Transformer
from parrotlab.training.compiler import compiled

TOKENS, ROWS = 16_384, 16
SIZES = [(512, 32_000), (512, 8192), (256, 32_000), (256, 8192), (1024, 32_000), (1024, 8192)]
Score = Callable[[torch.Tensor], torch.Tensor]


class Ends:
    """A model's last norm and head, hidden states of 16,384 tokens, and what they are to say."""

    def __init__(self, width: int, vocabulary: int, device: str) -> None:
        design = Transformer(layers=1, width=width, attention=Attention(heads=1), feedforward=Dense(), tied=True)
        with torch.device(device):
            self.model = LanguageModel(design, vocabulary)
            self.x_ND = torch.randn(TOKENS, width, requires_grad=True)
            self.tokens_BT = torch.randint(vocabulary, (ROWS, TOKENS // ROWS + 1))
            self.asked_BT = torch.ones(self.tokens_BT.shape, dtype=torch.bool)
        torch.nn.init.normal_(self.model.embedding_VD, std=width**-0.5)
        torch.nn.init.ones_(self.model.norm.weight_D)
        self.leaves = [self.x_ND, self.model.norm.weight_D, self.model.embedding_VD]

    def plain(self, x_ND: torch.Tensor) -> torch.Tensor:
        """With all logits."""
        logits_BTV = self.model.unembed(x_ND).unflatten(-2, (ROWS, -1))
        return mean_loss(logits_BTV, self.tokens_BT, self.asked_BT)

    def chunks(self, x_ND: torch.Tensor) -> torch.Tensor:
        """As training does it."""
        assert linear_cross_entropy.takes(x_ND, self.model.vocabulary)
        return self.model.score(x_ND, self.tokens_BT, self.asked_BT)

    def liger(self) -> Score:
        """Liger's; all tokens but each row's first are asked for, so that its mean is over one token fewer a row."""
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        loss = LigerFusedLinearCrossEntropyLoss(accum_dtype=torch.float32)
        targets_N = self.tokens_BT[:, 1:].flatten()
        share = TOKENS / self.tokens_BT.numel()

        def score(x_ND: torch.Tensor) -> torch.Tensor:
            normed_ND, head_VD = self.model.norm(x_ND).bfloat16(), self.model.embedding_VD.bfloat16()
            return loss(head_VD, normed_ND, targets_N) * share

        return score

    def gradients(self, score: Score, products: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
        """The loss, and its gradients by hidden states, norm and head."""
        with torch.autocast("cuda", dtype=products, enabled=products != torch.float32):
            loss = score(self.x_ND)
        return [loss.detach(), *torch.autograd.grad(loss, self.leaves)]


def measured(width: int, vocabulary: int, names: list[str], device: str) -> dict[str, Any]:
    """Milliseconds, megabytes and the largest relative error of each."""
    ends = Ends(width, vocabulary, device)
    row: dict[str, Any] = {"tokens": TOKENS, "width": width, "vocabulary": vocabulary}
    exact = ends.gradients(ends.plain, torch.float32)
    makers: dict[str, Callable[[], Score]] = {
        "chunks": lambda: compiled(ends.chunks),
        "plain": lambda: compiled(ends.plain),
        "liger": ends.liger,
    }
    for name, make in makers.items():
        if name not in names or (name == "liger" and not importlib.util.find_spec("liger_kernel")):
            continue
        torch.compiler.reset()
        score = make()

        def run(score: Score = score) -> list[torch.Tensor]:
            return ends.gradients(score)

        off = [(mine.float() - other).norm() / other.norm() for mine, other in zip(run(), exact)]
        row[name] = {
            "milliseconds": milliseconds(run, 10, graph=name != "liger"),
            "megabytes": peak_bytes(run) / 1e6,
            "error": max(off).item(),
        }
        print(width, vocabulary, name, row[name], flush=True)
        gc.collect()
    return row


def main() -> None:
    """Times every size and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/head.json"))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(range(len(SIZES))))
    parser.add_argument("--contenders", nargs="+", default=["chunks", "plain", "liger"])
    parser.add_argument("--chunk-megabytes", type=int, default=linear_cross_entropy.CHUNK_BYTES >> 20)
    options = parser.parse_args()
    linear_cross_entropy.CHUNK_BYTES = options.chunk_megabytes << 20
    rows = []
    for at in options.sizes:
        rows.append(measured(*SIZES[at], options.contenders, "cuda"))
        results = {"unit": "milliseconds", "chunk_bytes": linear_cross_entropy.CHUNK_BYTES, "rows": rows}
        write(options.output, results, "triton", "liger_kernel")


if __name__ == "__main__":
    main()
