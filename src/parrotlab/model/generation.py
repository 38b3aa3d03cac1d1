"""Greedy generation: prompts go on with the likeliest token, many at once, each until it is over.

What all prompts begin with is computed once; a row that is over leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from parrotlab.kernels.likeliest import likeliest
from parrotlab.model.cache import Growing, Prefix
from parrotlab.model.decoding import Choose, decoding
from parrotlab.model.likelihood import BATCH_TOKENS, batches, shared_prefix
from parrotlab.model.transformer import LanguageModel

Over = Callable[[list[int]], bool]
"""Is a text over with the last of these new tokens?"""


def generate(
    model: LanguageModel,
    prompts: Sequence[np.ndarray],
    most: int,
    over: Over,
    batch_tokens: int = BATCH_TOKENS,
    capture: bool = True,
) -> Iterator[tuple[int, list[int]]]:
    """The index of each prompt and its new tokens, at most ``most``, as they are over; the longest prompts first.

    ``capture`` allows steps to be CUDA graphs.
    """
    prefix = shared_prefix(model, prompts, min((len(prompt) - 1 for prompt in prompts), default=0))
    rest = [prompt[prefix.length :] for prompt in prompts]
    of_normed = likeliest(model.head)

    def choose(x_BD: Tensor) -> Tensor:
        return of_normed(model.norm(x_BD))

    # Decoding is the larger part of the work, and of it nothing is padded: no batch ends before it is full.
    for batch in batches([len(tokens_T) + most for tokens_T in rest], batch_tokens, batch_tokens):
        for place, tokens in _generate(model, choose, prefix, [rest[index] for index in batch], most, over, capture):
            yield batch[place], tokens


def _generate(
    model: LanguageModel,
    choose: Choose,
    prefix: Prefix,
    prompts: list[np.ndarray],
    most: int,
    over: Over,
    capture: bool,
) -> Iterator[tuple[int, list[int]]]:
    """The same for one batch, the longest prompt first."""
    cache, next_B = _read(model, choose, prefix, prompts, most)
    said: list[list[int]] = [[] for _ in prompts]
    going, rows = set(range(len(prompts))), list(range(len(prompts)))
    steps, told = None, [next_B.tolist()]
    while True:
        for tokens in told:
            for row, token in zip(rows, tokens):
                if row in going:
                    said[row].append(token)
                    if len(said[row]) == most or over(said[row]):
                        going.remove(row)
                        yield row, said[row]
        if not going:
            return
        steps = steps or decoding(model, choose, cache, next_B, capture)
        if len(rows) - len(going) >= steps.LEAVING * len(rows):
            steps.keep([place for place, row in enumerate(rows) if row in going])
            rows = [row for row in rows if row in going]
        told = steps.take(min(steps.STRIDE, most - max(len(said[row]) for row in going)))


def _read(
    model: LanguageModel, choose: Choose, prefix: Prefix, prompts: list[np.ndarray], most: int
) -> tuple[Growing, Tensor]:
    """The prompts, read, at the right of their rows, and the first token after each."""
    device, columns = model.embedding_VD.device, len(prompts[0])
    tokens_BT = np.zeros((len(prompts), columns), dtype=np.int64)
    for row_T, prompt in zip(tokens_BT, prompts):
        row_T[columns - len(prompt) :] = prompt
    cache = Growing(prefix, torch.tensor([columns - len(prompt) for prompt in prompts], device=device), columns + most)
    cache.extend(columns)
    with torch.no_grad():
        x_ND, _ = model.hidden(torch.from_numpy(tokens_BT).to(device), cache)
        return cache, choose(x_ND.view(len(prompts), columns, -1)[:, -1])
