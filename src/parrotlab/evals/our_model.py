"""Our language model as lm-evaluation-harness asks it: likelihoods of endings, and greedy generation.

What texts share is computed once (``model.likelihood``, ``model.generation``); tokens are cut as lm-eval's own backend
for Hugging Face models cuts them, so that both give the same answers on the same weights.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM  # type: ignore[import-not-found]

from parrotlab.model.generation import generate
from parrotlab.model.likelihood import BATCH_TOKENS, Text, likelihoods
from parrotlab.model.transformer import LanguageModel
from parrotlab.text.tokenizer import Tokenizer

LONGEST_ANSWER = 256
"""Tokens, unless the benchmark says otherwise; as lm-eval."""

Pair = tuple[np.ndarray, np.ndarray]
"""Tokens of a context and of what follows it."""


class OurModel(LM):
    """A trained model with its tokenizer. ``cut`` holds the items whose context did not fit."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        length: int,
        batch_tokens: int = BATCH_TOKENS,
        precision: contextlib.AbstractContextManager = contextlib.nullcontext(),  # noqa: B008 (it holds no state)
        hear: Callable[[int, int], None] = lambda done, items: None,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.length = model.eval(), tokenizer, length
        self.batch_tokens, self.precision, self.hear = batch_tokens, precision, hear
        self.cut: set[int] = set()

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(nats, is it greedy?) of each request's continuation after its context."""
        self.cut.clear()
        pairs = self._pairs([request.args for request in requests])
        groups: dict[Any, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault((request.task_name, request.doc_id), []).append(index)
        texts = [[self._text(pairs[index], requests[index].doc_id) for index in group] for group in groups.values()]
        told: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        members = list(groups.values())
        with self.precision:
            for done, (group, found) in enumerate(likelihoods(self.model, texts, self.batch_tokens), 1):
                for index, likelihood in zip(members[group], found):
                    told[index] = (likelihood.nats, likelihood.greedy)
                self.hear(done, len(texts))
        return told

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The likeliest text after each context, up to the first of its stops."""
        self.cut.clear()
        settings: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for index, request in enumerate(requests):
            asked = request.args[1]
            most = min(asked.get("max_gen_toks", LONGEST_ANSWER), self.length // 2)
            settings.setdefault((tuple(asked.get("until", ())), most), []).append(index)
        said, done = [""] * len(requests), 0
        for (until, most), members in settings.items():
            stops = Stops(self.tokenizer, until)
            prompts = [self._prompt(requests[index], self.length - most) for index in members]
            with self.precision:
                for place, tokens in generate(self.model, prompts, most, stops.over, self.batch_tokens):
                    said[members[place]] = stops.text(tokens)
                    done += 1
                    self.hear(done, len(requests))
        return said

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Nats of whole texts, each token seeing up to a context's length before it in windows that do not overlap."""
        texts, owners = [], []
        for index, request in enumerate(requests):
            (text,) = self.tokenizer.encode([request.args[0]])
            text = np.concatenate(([self.tokenizer.end], text.astype(np.int64)))
            for begin in range(0, len(text) - 1, self.length):
                window = text[begin : begin + self.length + 1]
                texts.append([Text(window, len(window) - 1)])
                owners.append(index)
        nats = [0.0] * len(requests)
        with self.precision:
            for group, (likelihood,) in likelihoods(self.model, texts, self.batch_tokens):
                nats[owners[group]] += likelihood.nats
        return nats

    def _pairs(self, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """Contexts and continuations, cut where the context's own tokens end; spaces belong to what follows them."""
        moved = []
        for context, continuation in asked:
            bare = context.rstrip()
            moved.append((bare, context[len(bare) :] + continuation))
        contexts = dict.fromkeys(context for context, _ in moved)
        tokens = dict(zip(contexts, self.tokenizer.encode(list(contexts))))
        wholes = self.tokenizer.encode([context + continuation for context, continuation in moved])
        end = np.array([self.tokenizer.end])
        pairs = []
        for (context, _), whole in zip(moved, wholes):
            split = min(len(tokens[context]), len(whole) - 1)  # a token that reaches over the seam belongs to the end
            pairs.append((whole[:split] if split else end, whole[split:]))
        return pairs

    def _text(self, pair: Pair, item: int) -> Text:
        """What the model reads: the end of both, if both are too long for it."""
        context, continuation = (tokens.astype(np.int64) for tokens in pair)
        whole = np.concatenate((context, continuation))
        if len(whole) > self.length + 1:
            self.cut.add(item)
            whole = whole[-self.length - 1 :]
        return Text(whole, min(len(continuation), len(whole) - 1))

    def _prompt(self, request: Any, room: int) -> np.ndarray:
        (tokens,) = self.tokenizer.encode([request.args[0]])
        tokens = tokens.astype(np.int64) if len(tokens) else np.array([self.tokenizer.end])
        if len(tokens) > room:
            self.cut.add(request.doc_id)
        return tokens[-room:]


class Stops:
    """Where a generated text ends: at the first of some strings, or at END."""

    def __init__(self, tokenizer: Tokenizer, until: Sequence[str]) -> None:
        self.tokenizer, self.until = tokenizer, [stop for stop in until if stop]
        last = {stop[-1] for stop in self.until}
        pieces = _pieces(tokenizer)
        # A stop is complete only with a token that has its last character; halves of a character may hold anything.
        self.may_end = np.array([bool(last & set(piece)) or "�" in piece for piece in pieces])
        self.window = 2 + 4 * max((len(stop) for stop in self.until), default=0)

    def over(self, tokens: list[int]) -> bool:
        """Has the text ended with its last token?"""
        token = tokens[-1]
        if token == self.tokenizer.end:
            return True
        if token >= len(self.may_end) or not self.may_end[token]:
            return False
        text = self.tokenizer.decode(np.array(tokens[-self.window :]))
        return any(stop in text for stop in self.until)

    def text(self, tokens: list[int]) -> str:
        """What was said before the end."""
        if tokens[-1] == self.tokenizer.end:
            tokens = tokens[:-1]
        text = self.tokenizer.decode(np.array(tokens, dtype=np.int64))
        for stop in self.until:
            text = text.partition(stop)[0]
        return text


@functools.lru_cache(maxsize=4)
def _pieces(tokenizer: Tokenizer) -> list[str]:
    """The text of each token alone."""
    return [tokenizer.decode(np.array([token])) for token in range(tokenizer.vocabulary)]
