"""Mixtures: which texts a model reads, and how much of each.

The paper names the sources of its two mixtures and not their proportions: the weights here are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from parrotlab.spec import nearest

Weights = tuple[tuple[str, float], ...]
"""Names of parts with their share of the rows; together 1."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place that documents come from; prepared, it is one part of a corpus."""

    name: str
    place: str
    """A file, or a name in the data folder such as ``corpora/dict_foldoc`` (its ending may be left out), or
    ``hub:OWNER/NAME[:CONFIGURATION]``, a data set of the Hugging Face hub, streamed."""
    weight: float
    """Share of the training rows, 0-1."""
    licence: str = "unknown"
    downstream: bool = False
    """Is it the training set of a benchmark?"""
    documents: int = 0
    """Read at most so many; 0 is all."""

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"source {self.name!r}: weight must lie above 0 and be at most 1, not {self.weight}")


@dataclass(frozen=True, kw_only=True)
class TextMixture:
    """Sources whose weights sum to 1."""

    name: str
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        check_weights(tuple((source.name, source.weight) for source in self.sources), f"mixture {self.name!r}")

    def weights(self, downstream: bool = True) -> Weights:
        """Each part's share of the rows, for the language task; without the downstream sets the rest is scaled up."""
        kept = [source for source in self.sources if downstream or not source.downstream]
        total = math.fsum(source.weight for source in kept)  # Python 3.12 rounds a plain sum otherwise than 3.11
        return tuple((source.name, source.weight / total) for source in kept)


def check_weights(weights: Weights, where: str) -> None:
    """Refuses weights that do not sum to 1, and names that repeat."""
    names = [name for name, _ in weights]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: {next(n for n in names if names.count(n) > 1)!r} stands there twice")
    total = sum(weight for _, weight in weights)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(f"{where}: weights must sum to 1, not {total:.6g}")


def mixture(name: str) -> TextMixture:
    """The recipe of that name."""
    if name not in RECIPES:
        raise ValueError(f"there is no mixture {name!r}: {nearest(name, RECIPES)}")
    return RECIPES[name]


def _downstream(name: str, weight: float, licence: str, file: str = "train") -> Source:
    return Source(name=name, place=f"{name}/{file}", weight=weight, licence=licence, downstream=True)


def _corpus(name: str, weight: float, licence: str) -> Source:
    return Source(name=name, place=f"corpora/{name}", weight=weight, licence=licence)


LOCAL_LANGUAGE = TextMixture(
    name="local_language",
    sources=(
        _corpus("english_novels_100", 0.24, "public domain"),
        _corpus("eltec_english_novels", 0.18, "public domain, markup CC BY 4.0"),
        _corpus("gutenberg_speeches_misc", 0.04, "public domain"),
        _corpus("openstax_science_humanities", 0.16, "CC BY 4.0"),
        _corpus("dict_gcide", 0.10, "GPL-3.0"),
        _corpus("dict_foldoc", 0.03, "GFDL-1.1+"),
        _corpus("cia_world_factbook", 0.03, "public domain"),
        _corpus("wikipedia_vital_leads", 0.05, "CC BY-SA 4.0"),
        _corpus("wikipedia_full_articles_gensim", 0.02, "CC BY-SA 4.0"),
        _downstream("hellaswag", 0.06, "MIT"),
        _downstream("social_iqa", 0.02, "unknown"),
        _downstream("winogrande", 0.02, "unknown", "train_xl"),
        _downstream("piqa", 0.01, "unknown"),
        _downstream("commonsense_qa", 0.01, "MIT"),
        _downstream("openbookqa", 0.01, "unknown"),
        _downstream("arc_easy", 0.005, "CC BY-SA 4.0"),
        _downstream("arc_challenge", 0.005, "CC BY-SA 4.0"),
        _downstream("triviaqa", 0.005, "unknown", "train_dprdev"),
        _downstream("nq_open", 0.0025, "CC BY-SA 3.0", "train_dprdev"),
        _downstream("web_questions", 0.0025, "CC BY 4.0"),
    ),
)
"""About 210 MB of text: novels, text books, dictionaries, encyclopedias, and benchmark training sets at 15%."""

LOCAL_MATH = TextMixture(
    name="local_math",
    sources=(
        _corpus("stacks_project_tex", 0.25, "GFDL-1.2+"),
        _corpus("openstax_math", 0.20, "CC BY 4.0"),
        _corpus("metamath_set_mm_statements", 0.10, "CC0-1.0"),
        _corpus("open_logic_tex", 0.05, "CC BY 4.0"),
        _corpus("napkin_tex", 0.05, "CC BY-SA 4.0"),
        Source(
            name="deepmind_mathematics",
            place="deepmind_mathematics/train",
            weight=0.20,
            licence="generated, unrestricted",
        ),
        _downstream("gsm8k", 0.07, "MIT"),
        _downstream("math", 0.08, "MIT"),
    ),
)
"""About 115 MB: mathematics in LaTeX and text books, generated exercises, and benchmark training sets at 15%."""

PAPER_LANGUAGE = TextMixture(
    name="paper_language",
    sources=(
        Source(name="fineweb_edu", place="hub:HuggingFaceFW/fineweb-edu", weight=0.60, licence="ODC-By 1.0"),
        Source(
            name="cosmopedia", place="hub:HuggingFaceTB/smollm-corpus:cosmopedia-v2", weight=0.25, licence="Apache-2.0"
        ),
        Source(name="wikipedia", place="hub:wikimedia/wikipedia:20231101.en", weight=0.10, licence="CC BY-SA 4.0"),
        _downstream("hellaswag", 0.02, "MIT"),
        _downstream("social_iqa", 0.01, "unknown"),
        _downstream("winogrande", 0.01, "unknown", "train_xl"),
        _downstream("triviaqa", 0.01, "unknown", "train_dprdev"),
    ),
)
"""FineWeb-edu, Cosmopedia, Wikipedia and downstream training sets; the paper's proportions are unknown."""

PAPER_MATH = TextMixture(
    name="paper_math",
    sources=(
        Source(name="proof_pile_2", place="hub:EleutherAI/proof-pile-2", weight=0.80, licence="unknown"),
        Source(name="open_math_instruct", place="hub:nvidia/OpenMathInstruct-1", weight=0.15, licence="NVIDIA licence"),
        Source(name="metamathqa", place="hub:meta-math/MetaMathQA", weight=0.05, licence="MIT"),
    ),
)
"""Proof-Pile 2, OpenMathInstruct, MetaMathQA; the paper's proportions are unknown."""

RECIPES = {recipe.name: recipe for recipe in (LOCAL_LANGUAGE, LOCAL_MATH, PAPER_LANGUAGE, PAPER_MATH)}
