"""Caches: keys and values that are computed once and looked at by tokens that come later or elsewhere.

    Prefix      the beginning that many rows share, such as the examples before every question
    Branches    rows that are trees: a trunk, and branches that see it and not each other (the choices of a question)
    Growing     rows that grow a token at a time (greedy generation)
    Stepping    the same, a step like the other: for a CUDA graph

A cache is handed to ``LanguageModel.hidden``, with the tokens whose places it describes. What it computes is what the
whole rows would give without it; only the order of the additions differs.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Cache(Protocol):
    """Where the tokens of one forward pass stand, and what they look at."""

    positions_BT: Tensor
    """The position of each token in its text."""

    def gather(self, layer: int, query_BHTC: Tensor, key_BHTC: Tensor, value_BHTC: Tensor) -> Tensor:
        """[B, H, T, C] what each token's heads gather in a layer; keys and values have H / group heads."""
        ...


class Prefix:
    """Keys and values of one text, which rows of any number may begin with. An empty one holds nothing."""

    def __init__(self, tokens: int, device: torch.device) -> None:
        self.length = tokens
        self.positions_BT = torch.arange(tokens, device=device).unsqueeze(0)
        self.keys: list[Tensor] = []
        """[1, H, P, C] for each layer, rotated."""
        self.values: list[Tensor] = []

    def gather(self, layer: int, query_BHTC: Tensor, key_BHTC: Tensor, value_BHTC: Tensor) -> Tensor:
        """Causal attention; keys and values are kept."""
        assert layer == len(self.keys), "a prefix is computed once, layer by layer"
        self.keys.append(key_BHTC)
        self.values.append(value_BHTC)
        grouped = query_BHTC.shape[1] > key_BHTC.shape[1]
        return F.scaled_dot_product_attention(query_BHTC, key_BHTC, value_BHTC, is_causal=True, enable_gqa=grouped)

    def attend(self, layer: int, query_BHTC: Tensor, key_BHSC: Tensor, value_BHSC: Tensor, seen_BTS: Tensor) -> Tensor:
        """[B, H, T, C] what queries gather from the whole prefix and, where ``seen_BTS``, from their own row."""
        if query_BHTC.shape[2] == 1:
            return self._attend_with_one(layer, query_BHTC, key_BHSC, value_BHSC, seen_BTS)
        seen_B1TS = seen_BTS.unsqueeze(1)
        if self.length:
            rows = len(key_BHSC)
            key_BHSC = torch.cat((self.keys[layer].expand(rows, -1, -1, -1), key_BHSC), dim=2)
            value_BHSC = torch.cat((self.values[layer].expand(rows, -1, -1, -1), value_BHSC), dim=2)
            seen_B1TS = F.pad(seen_B1TS, (self.length, 0), value=True)
        grouped = query_BHTC.shape[1] > key_BHSC.shape[1]
        return F.scaled_dot_product_attention(query_BHTC, key_BHSC, value_BHSC, seen_B1TS, enable_gqa=grouped)

    def _attend_with_one(
        self, layer: int, query_BH1C: Tensor, key_BHSC: Tensor, value_BHSC: Tensor, seen_B1S: Tensor
    ) -> Tensor:
        """The same for one query a row, as the formula has it: all rows meet the prefix in one product, uncopied."""
        rows, heads = key_BHSC.shape[:2]
        query_BHGC = (query_BH1C * query_BH1C.shape[-1] ** -0.5).view(rows, heads, -1, query_BH1C.shape[-1])
        scores_BHGS = (query_BHGC @ key_BHSC.mT).masked_fill(~seen_B1S.unsqueeze(1), -torch.inf)
        if not self.length:
            return (scores_BHGS.softmax(dim=-1) @ value_BHSC).view_as(query_BH1C)
        group = query_BHGC.shape[2]
        query_HNC = query_BHGC.transpose(0, 1).flatten(1, 2)
        before_BHGP = (query_HNC @ self.keys[layer][0].mT).unflatten(1, (rows, group)).transpose(0, 1)
        weights = torch.cat((before_BHGP, scores_BHGS), dim=-1).softmax(dim=-1)
        before_HNP = weights[..., : self.length].transpose(0, 1).flatten(1, 2)
        gathered_BHGC = (before_HNP @ self.values[layer][0]).unflatten(1, (rows, group)).transpose(0, 1)
        return (gathered_BHGC + weights[..., self.length :] @ value_BHSC).reshape(query_BH1C.shape)


class Branches:
    """Rows that are trees behind a prefix: tokens of branch 0, the trunk, are seen by all that follow it in the row,
    those of another branch by their own branch alone. Negative branches are padding.
    """

    def __init__(self, prefix: Prefix, branch_BT: Tensor) -> None:
        self.prefix = prefix
        before_TT = torch.ones(branch_BT.shape[1], branch_BT.shape[1], dtype=torch.bool, device=branch_BT.device).tril()
        on_way_BTT = (branch_BT.unsqueeze(1) == branch_BT.unsqueeze(2)) | (branch_BT == 0).unsqueeze(1)
        self.seen_BTT = on_way_BTT & before_TT
        self.positions_BT = prefix.length + self.seen_BTT.sum(dim=-1) - 1

    def gather(self, layer: int, query_BHTC: Tensor, key_BHTC: Tensor, value_BHTC: Tensor) -> Tensor:
        """Attention along each token's way to the root."""
        return self.prefix.attend(layer, query_BHTC, key_BHTC, value_BHTC, self.seen_BTT)


class Growing:
    """Rows behind a prefix that grow at their right end; they begin at different columns and end at the same one.

    ``extend`` says how many columns come next, before the model reads them.
    """

    def __init__(self, prefix: Prefix, start_B: Tensor, capacity: int) -> None:
        self.prefix, self.start_B, self.capacity, self.length = prefix, start_B, capacity, 0
        self.columns_S = torch.arange(capacity, device=start_B.device)
        self.keys: list[Tensor] = []
        """[B, H, S, C] for each layer, of which the first ``length`` columns are filled."""
        self.values: list[Tensor] = []

    def extend(self, columns: int) -> None:
        """The next tokens stand in so many columns behind those filled."""
        self.begin, self.length = self.length, self.length + columns
        assert self.length <= self.capacity, f"{self.length} columns in a cache of {self.capacity}"
        now_T, seen_S = self.columns_S[self.begin : self.length], self.columns_S[: self.length]
        # A column left of a row's beginning sees itself: attention to nothing is no number.
        inside_BTS = (seen_S >= self.start_B[:, None, None]) | (seen_S == now_T[:, None])
        self.seen_BTS = inside_BTS & (seen_S <= now_T[:, None])
        self.positions_BT = self.prefix.length + (now_T - self.start_B[:, None]).clamp(min=0)

    def gather(self, layer: int, query_BHTC: Tensor, key_BHTC: Tensor, value_BHTC: Tensor) -> Tensor:
        """Keeps keys and values, and attends to all columns of the row so far."""
        if layer == len(self.keys):
            rows, heads, _, channels = key_BHTC.shape
            for kept, now in ((self.keys, key_BHTC), (self.values, value_BHTC)):
                kept.append(now.new_zeros(rows, heads, self.capacity, channels))
        self.keys[layer][:, :, self.begin : self.length] = key_BHTC
        self.values[layer][:, :, self.begin : self.length] = value_BHTC
        key_BHSC, value_BHSC = (kept[layer][:, :, : self.length] for kept in (self.keys, self.values))
        return self.prefix.attend(layer, query_BHTC, key_BHSC, value_BHSC, self.seen_BTS)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows only."""
        self.start_B = self.start_B[rows]
        self.keys = [key_BHSC[rows] for key_BHSC in self.keys]
        self.values = [value_BHSC[rows] for value_BHSC in self.values]


class Stepping:
    """A ``Growing`` that grows by a column a step. No size and no address depends on the step, so that one CUDA graph
    is all steps: every column of the capacity is looked at, and those to come are masked.
    """

    def __init__(self, grown: Growing) -> None:
        self.grown = grown
        self.column_1 = torch.tensor([grown.length], device=grown.start_B.device)
        """Where the next token stands."""

    def extend(self) -> None:
        """The next token stands in the next column; ``advance`` says when it has been read."""
        grown = self.grown
        columns_S, start_B1 = grown.columns_S, grown.start_B.unsqueeze(-1)
        self.seen_B1S = ((columns_S >= start_B1) & (columns_S <= self.column_1)).unsqueeze(1)
        self.positions_BT = grown.prefix.length + self.column_1 - start_B1

    def gather(self, layer: int, query_BHTC: Tensor, key_BHTC: Tensor, value_BHTC: Tensor) -> Tensor:
        """Keeps keys and values, and attends to all columns of the row so far."""
        key_BHSC, value_BHSC = self.grown.keys[layer], self.grown.values[layer]
        key_BHSC.index_copy_(2, self.column_1, key_BHTC)
        value_BHSC.index_copy_(2, self.column_1, value_BHTC)
        return self.grown.prefix.attend(layer, query_BHTC, key_BHSC, value_BHSC, self.seen_B1S)

    def advance(self) -> None:
        """The column is filled."""
        self.column_1 += 1
