"""``parrotlab profile``."""

from __future__ import annotations

from tyro.conf import Positional

from parrotlab.cli._bars import label
from parrotlab.cli._plans import CORES
from parrotlab.cli._show import say, short, show_json, show_table


def profile(
    study: Positional[str],
    *,
    scale: str = "laptop",
    run: int = 0,
    device: str = "auto",
    seconds: float = 2.0,
    json: bool = False,
) -> int:
    """Show where a training step's time goes: by part, in tokens a second, and against the machine's ceiling.

    Args:
        study: The name of a study.
        scale: smoke, laptop, gpu or paper.
        run: Which of the study's runs, in the order of parrotlab plan, from 0 on; with its whole stack.
        device: cpu (one thread, as runs train there), cuda, or auto for CUDA where there is one.
        seconds: How long to time whole steps.
        json: Print JSON.
    """
    import torch

    from parrotlab.cli._plans import chosen, planned
    from parrotlab.execution.local import stacks
    from parrotlab.model.transformer import build
    from parrotlab.training import devices
    from parrotlab.training.profile import profile as profiled

    runs = planned(chosen([study]), scale)[study]
    if not 0 <= run < len(runs):
        raise ValueError(f"{study} has no run {run} at scale {scale}: ask for 0 to {len(runs) - 1}")
    where = devices.device(device)
    if not where.is_cuda:
        torch.set_num_threads(1)
    stack = next(stack for stack in stacks(runs, where, CORES) if runs[run] in stack)
    task, recipe, seeds = runs[run].task, runs[run].recipe, [each.seed for each in stack]
    model = build(runs[run].model, task.vocabulary, seeds if len(stack) > 1 else seeds[0], where.name)
    found = profiled(model, task, recipe, [each.recipe.learning_rate for each in stack], seeds, where, seconds)
    if json:
        show_json({"run": label(runs[run]), "replicas": len(stack), "mfu": found.mfu} | vars(found))
        return 0
    total = sum(found.seconds.values())
    rows = [
        {"part": part, "milliseconds": 1e3 * spent, "fraction": spent / total} for part, spent in found.seconds.items()
    ]
    show_table(rows, title=f"{label(runs[run])}: one step, replicas: {len(stack)}")
    say(
        f"{short(found.tokens_per_second)} tokens/s, {short(found.flops_per_second)}FLOP/s: {found.mfu:.1%} of the "
        f"{short(found.ceiling_flops_per_second)}FLOP/s of a large matrix product; "
        f"data took {1e3 * found.data_seconds:.3g} ms a step, beside the training"
    )
    return 0
