"""Valid path: the model's own answer is right by the task's rules, be it the label or another shortest path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from parrotlab.evals._batches import batches
from parrotlab.evals.evaluation import Logits
from parrotlab.results.measurement import Measurement
from parrotlab.tasks.task import Judged, Split, Task


@dataclass(frozen=True, kw_only=True)
class ValidPath:
    """Fraction of greedily generated answers that are right, as ``valid_path / accuracy``."""

    split: Split
    count: int
    """Questions asked, at most."""

    def measure(self, logits: Logits, task: Task, seed: int, step: int) -> Iterator[Measurement]:
        """One measurement."""
        if not isinstance(task, Judged):
            raise ValueError(f"{type(task).__name__} cannot judge an answer: it has no method 'right'")
        rows = right = 0
        for batch in batches(task.examples(self.split, self.count, seed), task.vocabulary):
            prompt_BP = batch.tokens_BT[:, : task.prompt]
            answer_BT = generate(logits, prompt_BP, task.length - task.prompt)
            right += int(task.right(prompt_BP, answer_BT).sum())
            rows += len(prompt_BP)
        if rows:
            yield Measurement(
                evaluation="valid_path", split=self.split, metric="accuracy", value=right / rows, count=rows, step=step
            )


def generate(logits: Logits, prompt_BP: np.ndarray, tokens: int) -> np.ndarray:
    """[B, tokens] the likeliest continuation, token by token. Rows are short, so nothing is cached."""
    row_BT = torch.from_numpy(prompt_BP).long()
    with torch.no_grad():
        for _ in range(tokens):
            next_B = logits(row_BT)[:, -1].argmax(dim=-1).cpu()
            row_BT = torch.cat((row_BT, next_B.unsqueeze(-1)), dim=-1)
    return row_BT[:, prompt_BP.shape[1] :].numpy()
