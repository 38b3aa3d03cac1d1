"""Items a second of our model under lm-evaluation-harness, and of lm-eval's Hugging Face backend on the same weights.

    PARROTLAB_DATA=FOLDER python benchmarks/evaluation.py [--device cuda] [--output FILE] [--models dense mixture]

A dense model and a mixture are trained for a few steps on questions with their answers, so that their texts end, and
exported; both sides then answer the same items of the same task files. The peer is asked with several batch sizes, and
its fastest counts. Answers must agree: likelihoods to rounding, texts to the letter in float32.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the studies train on a CPU: a thread a process
os.environ.setdefault("TQDM_DISABLE", "1")

import argparse
import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _facts import write

from parrotlab.evals import harness, sets
from parrotlab.model import huggingface
from parrotlab.model.attention import Attention
from parrotlab.model.feedforwards.dense import Dense
from parrotlab.model.feedforwards.mixture import Mixture
from parrotlab.model.loss import token_losses
from parrotlab.model.transformer import LanguageModel, Transformer, build
from parrotlab.seeds import stream
from parrotlab.text import hub, tokenizer

LENGTH = 2048
"""Tokens of the models' context."""
TRAINING = (
    "triviaqa/train_dprdev",
    "gsm8k/train",
    "hellaswag/train",
    "piqa/train",
    "arc_easy/train",
    "arc_challenge/train",
)
GPU_ITEMS = 5
ROWS_READ = 8_000
"""Of each of these files, at most."""
TOLERANCE = {"float32": 1e-3, "bfloat16": math.inf}
"""Nats by which a choice's likelihoods may differ; bfloat16 is compared by scores alone."""


@dataclass(frozen=True)
class Question:
    """A benchmark as it is asked here."""

    benchmark: str
    shots: int
    items: int
    """On a CPU; a GPU is asked ``GPU_ITEMS`` times as many."""


CHOICES = (
    Question("arc_easy", 0, 60),
    Question("hellaswag", 0, 60),
    Question("piqa", 0, 60),
    Question("winogrande", 0, 60),
    Question("hellaswag", 10, 16),
    Question("arc_challenge", 25, 8),
)
"""Without examples, as small models are asked, and with those of the Open LLM Leaderboard."""
TEXTS = (Question("triviaqa", 5, 48), Question("gsm8k", 8, 32))


def designs(width: int, layers: int) -> dict[str, Transformer]:
    """The two models."""
    feedforwards = {"dense": Dense(expansion=2.0), "mixture": Mixture(experts=8)}
    return {
        name: Transformer(
            layers=layers, width=width, attention=Attention(heads=max(1, width // 64)), feedforward=feedforward
        )
        for name, feedforward in feedforwards.items()
    }


def texts(name: str) -> Iterator[str]:
    """The rows of a training file, asked and answered."""
    for _, record in itertools.islice(hub.records(sets.find(name)), ROWS_READ):
        question = record.get("question") or record.get("context", "")
        if "choices" in record:
            yield f"Question: {question}\nAnswer: {record['choices'][record['label']]}\n\n"
        elif "answers" in record:
            yield f"Question: {question}\nAnswer: {record['answers'][0]}\n\n"
        else:
            yield f"Q: {question}\nA: {record['solution']} The answer is {record['answer']}.\n\n"


def train(model: LanguageModel, reader: tokenizer.Tokenizer, steps: int, rows: int = 8, length: int = 128) -> None:
    """A few steps on texts drawn from all files, one behind the other."""
    drawn = [text for name in TRAINING for text in itertools.islice(texts(name), 2_000)]
    order = stream("evaluation").permutation(len(drawn))
    tokens = np.concatenate(reader.encode([drawn[index] for index in order])).astype(np.int64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    device = model.embedding_VD.device
    for step in range(steps):
        starts = stream("evaluation", step).integers(len(tokens) - length - 1, size=rows)
        batch_BT = torch.from_numpy(np.stack([tokens[start : start + length + 1] for start in starts])).to(device)
        loss = token_losses(model(batch_BT[:, :-1])[0], batch_BT, torch.ones_like(batch_BT, dtype=torch.bool)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def clock(device: str) -> float:
    """Seconds of this process on a CPU, whatever else the machine does; of the wall, once a GPU is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def asked(model: Any, question: Question, items: int, device: str) -> tuple[harness.Asked, float]:
    """The answers, and the seconds that they took."""
    benchmark = harness.benchmarks()[question.benchmark]
    task = harness.task(benchmark, shots=question.shots)
    began = clock(device)
    answers = harness.ask(model, benchmark, task, items)
    return answers, clock(device) - began


def difference(ours: harness.Asked, theirs: harness.Asked) -> float:
    """The largest of two likelihoods; for texts, the fraction that differ."""
    pairs = list(zip(ours.answers, theirs.answers, strict=True))
    if ours.answers[0].loglikelihoods:
        return max(
            abs(our - their) for one, other in pairs for our, their in zip(one.loglikelihoods, other.loglikelihoods)
        )
    return sum(one.text != other.text for one, other in pairs) / len(pairs)


def compare(question: Question, ours: Any, peers: dict[int, Any], precision: str, device: str) -> dict[str, Any]:
    """Both sides on one question, in turns; the first turn of a GPU is not counted."""
    items = question.items * (1 if device == "cpu" else GPU_ITEMS)
    if device != "cpu":
        asked(ours, question, 8, device)
    answers, seconds = asked(ours, question, items, device)
    peer: dict[int, float] = {}
    apart = 0.0
    for rows, model in peers.items():
        theirs, peer[rows] = asked(model, question, items, device)
        apart = max(apart, difference(answers, theirs))
    fastest = min(peer, key=lambda rows: peer[rows])
    answers, again = asked(ours, question, items, device)
    seconds = min(seconds, again)
    limit = TOLERANCE[precision] if answers.answers[0].loglikelihoods else (0.0 if precision == "float32" else 1.0)
    if apart > limit:
        raise SystemExit(f"{question}: the answers differ by {apart}")
    return vars(question) | {
        "items": items,
        "items_per_second": items / seconds,
        "peer_items_per_second": items / peer[fastest],
        "peer_batch_rows": fastest,
        "ratio": peer[fastest] / seconds,
        "difference": apart,
        "scores": {measurement.metric: measurement.value for measurement in answers.measurements},
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios, of likelihoods and of generation, where there are any yet."""
    ratios = {
        kind: [row["ratio"] for row in rows if row["benchmark"] in {one.benchmark for one in questions}]
        for kind, questions in (("likelihood_ratio", CHOICES), ("generation_ratio", TEXTS))
    }
    return {kind: math.exp(sum(map(math.log, values)) / len(values)) for kind, values in ratios.items() if values}


def main() -> None:
    """Times both models on every question, and writes the table with each row: who stops early keeps what was timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/evaluation.json"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100, help="of training, before the models are asked")
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--models", nargs="+", choices=("dense", "mixture"), default=["dense", "mixture"])
    parser.add_argument("--add", action="store_true", help="keep what the output has of the other model")
    options = parser.parse_args()
    harness.offline()
    from lm_eval.models.huggingface import HFLM

    from parrotlab.evals.our_model import OurModel

    device = options.device
    precision = "float32" if device == "cpu" else "bfloat16"
    if device == "cpu":
        torch.set_num_threads(1)
    shape = {"width": options.width, "layers": options.layers, "vocabulary": options.vocabulary, "steps": options.steps}
    settings = shape | {"device": device, "precision": precision, "threads": torch.get_num_threads()}
    rows: list[dict[str, Any]] = []
    if options.add and options.output.exists():
        kept = json.loads(options.output.read_text())["results"]["rows"]
        rows = [row for row in kept if row["model"] not in options.models]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        learned = (text for name in TRAINING for text in texts(name))
        reader = tokenizer.train(learned, options.vocabulary, folder / "tokenizer.json")
        for name in options.models:
            design = designs(options.width, options.layers)[name]
            model = build(design, reader.vocabulary, 0, device)
            train(model, reader, options.steps)
            out = folder / name
            huggingface.export(model.cpu(), out, tokenizer=reader.content, positions=LENGTH)  # type: ignore[attr-defined]
            context = torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")
            ours = OurModel(model.to(device), reader, LENGTH, precision=context)
            peers = {
                size: HFLM(pretrained=str(out), device=device, dtype=precision, batch_size=size)
                for size in ((8, 32) if device == "cpu" else (64, 256))
            }
            for question in (*CHOICES, *TEXTS):
                row = {"model": name} | compare(question, ours, peers, precision, device)
                rows.append(row)
                print(row, flush=True)
                write(options.output, settings | summary(rows) | {"rows": rows}, "transformers", "lm-eval")
    print(summary(rows))


if __name__ == "__main__":
    main()
