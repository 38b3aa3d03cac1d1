"""Greedy generation: prompts go on with the likeliest token, many at once, each until it is over.

What all prompts begin with is computed once; a row that is over leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from parrotlab.model.cache import Growing, Prefix
from parrotlab.model.likelihood import BATCH_TOKENS, batches, shared_prefix
from parrotlab.model.transformer import LanguageModel

LEAVING = 1 / 8
"""Rows that are over leave when they are this fraction: leaving copies the cache of those that stay."""

Over = Callable[[list[int]], bool]
"""Is a text over with the last of these new tokens?"""


def generate(
    model: LanguageModel,
    prompts: Sequence[np.ndarray],
    most: int,
    over: Over,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[tuple[int, list[int]]]:
    """The index of each prompt and its new tokens, at most ``most``, as they are over; the longest prompts first."""
    prefix = shared_prefix(model, prompts, min((len(prompt) - 1 for prompt in prompts), default=0))
    rest = [prompt[prefix.length :] for prompt in prompts]
    # Decoding is the larger part of the work, and of it nothing is padded: no batch ends before it is full.
    for batch in batches([len(tokens_T) + most for tokens_T in rest], batch_tokens, batch_tokens):
        for place, tokens in _generate(model, prefix, [rest[index] for index in batch], most, over):
            yield batch[place], tokens


def _generate(
    model: LanguageModel, prefix: Prefix, prompts: list[np.ndarray], most: int, over: Over
) -> Iterator[tuple[int, list[int]]]:
    """The same for one batch, the longest prompt first; prompts stand at the right of their rows."""
    device, columns = model.embedding_VD.device, len(prompts[0])
    tokens_BT = np.zeros((len(prompts), columns), dtype=np.int64)
    for row_T, prompt in zip(tokens_BT, prompts):
        row_T[columns - len(prompt) :] = prompt
    start_B = torch.tensor([columns - len(prompt) for prompt in prompts], device=device)
    cache = Growing(prefix, start_B, columns + most)
    said: list[list[int]] = [[] for _ in prompts]
    going, rows = set(range(len(prompts))), list(range(len(prompts)))
    now_BT = torch.from_numpy(tokens_BT).to(device)
    for step in range(most):
        cache.extend(now_BT.shape[1])
        with torch.no_grad():
            x_ND, _ = model.hidden(now_BT, cache)
            x_BD = x_ND.view(len(rows), -1, x_ND.shape[-1])[:, -1]
            next_B = model.unembed(x_BD).argmax(dim=-1)
        for row, token in zip(rows, next_B.tolist()):
            if row in going:
                said[row].append(token)
                if step + 1 == most or over(said[row]):
                    going.remove(row)
                    yield row, said[row]
        if not going:
            return
        if len(rows) - len(going) >= LEAVING * len(rows):
            kept = torch.tensor([place for place, row in enumerate(rows) if row in going], device=device)
            cache.keep(kept)
            next_B, rows = next_B[kept], [row for row in rows if row in going]
        now_BT = next_B.unsqueeze(-1)
