"""Specs: a strict codec, a fingerprint, and drift that is noticed."""

import dataclasses
import doctest
import json
import sys
import types
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parrotlab import spec
from parrotlab.spec import Drift, SpecError, check_drift, decode, encode, fingerprint, flatten
from parrotlab.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Egg:
    grams: float = 60.0
    colour: Literal["white", "brown"] = "white"


@dataclass(frozen=True, kw_only=True)
class Shell:
    layers: int = 2


@dataclass(frozen=True, kw_only=True)
class Nest:
    name: str
    eggs: tuple[Egg, ...] = ()
    inside: Egg | Shell = Egg()
    size: tuple[int, float] = (1, 2.0)
    warm: bool = False


# A spec's type is its place in the package, so these three are given one.
kitchen = types.ModuleType("parrotlab.kitchen")
for cls in (Egg, Shell, Nest):
    cls.__module__ = kitchen.__name__
    setattr(kitchen, cls.__name__, cls)
sys.modules[kitchen.__name__] = kitchen

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000)
eggs = st.builds(Egg, grams=numbers, colour=st.sampled_from(["white", "brown"]))
nests = st.builds(
    Nest,
    name=st.text(),
    eggs=st.lists(eggs, max_size=3).map(tuple),
    inside=eggs | st.builds(Shell, layers=st.integers()),
    size=st.tuples(st.integers(), numbers),
    warm=st.booleans(),
)


def test_the_docstring_tells_the_truth():
    failures, examples = doctest.testmod(spec)
    assert (failures, examples) == (0, 3)


@given(nests)
def test_what_was_encoded_decodes_to_an_equal_spec(nest):
    assert decode(json.loads(json.dumps(encode(nest)))) == nest


@given(nests)
def test_a_decoded_spec_keeps_its_name_and_has_not_drifted(nest):
    again = decode(json.loads(json.dumps(encode(nest))))
    assert fingerprint(again) == fingerprint(nest)
    check_drift(encode(nest), again)


@given(nests, nests)
def test_equal_specs_and_only_they_share_a_fingerprint(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_a_field_at_its_default_leaves_the_name_as_it_was_before_the_field():
    assert fingerprint(Nest(name="a", warm=False)) == fingerprint(Nest(name="a"))
    assert fingerprint(Nest(name="a", warm=True)) != fingerprint(Nest(name="a"))


def test_the_name_of_a_spec_never_changes():
    assert fingerprint(Recipe(steps=10, rows=2, learning_rate=0.001)) == "28ad50a8c313bbb4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"egs": []}, "Nest has no field 'egs': did you mean 'eggs'?"),
        ({"zebra": 1}, "Nest has no field 'zebra': known are eggs, inside, name, size, warm"),
        ({"eggs": [{"type": "kitchen.Egg", "gram": 3}]}, "Egg has no field 'gram': did you mean 'grams'?"),
        ({"name": 3}, "Nest.name: expected str, got 3"),
        ({"warm": 1}, "Nest.warm: expected bool, got 1"),
        ({"size": [1]}, "Nest.size: expected 2 values, got [1]"),
        ({"size": [True, 2.0]}, "Nest.size: expected int, got True"),
        ({"size": 3}, "Nest.size: expected tuple[int, float], got 3"),
        ({"name": ["a"]}, "Nest.name: expected str, got ['a']"),
        ({"inside": 3}, "Nest.inside: expected Egg or Shell, got 3"),
        ({"inside": {"type": "kitchen.Nest", "name": "b"}}, "Nest.inside: expected Egg or Shell, got Nest("),
        ({"eggs": [{"type": "kitchen.Shell"}]}, "Nest.eggs: expected Egg, got Shell(layers=2)"),
        ({"inside": {"type": "kitchen.Egg", "colour": "blue"}}, "Egg.colour: expected 'white' or 'brown', got 'blue'"),
        ({"inside": {"type": "kitchen.Eg"}}, "Nest.inside: there is no spec of type 'kitchen.Eg'"),
        ({"inside": {"grams": 3}}, "Nest.inside: expected a spec, an object with a 'type', got {'grams': 3}"),
        ({"type": "spec.Any"}, "spec: 'spec.Any' is not a spec"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(change, message):
    with pytest.raises(SpecError) as error:
        decode({"type": "kitchen.Nest", "name": "a"} | change)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_absent_field_without_a_default_is_named():
    with pytest.raises(SpecError, match="'name'"):
        decode({"type": "kitchen.Nest"})


def test_a_spec_that_refuses_itself_says_why():
    with pytest.raises(ValueError, match="steps=0"):
        decode({"type": "training.recipe.Recipe", "steps": 0, "rows": 1, "learning_rate": 0.1})


def test_a_changed_default_is_drift(monkeypatch):
    stored = encode(Nest(name="a"))

    @dataclass(frozen=True, kw_only=True)
    class Later(Nest):
        warm: bool = True

    Later.__module__, Later.__qualname__ = Nest.__module__, Nest.__qualname__
    monkeypatch.setattr(kitchen, "Nest", Later)
    assert fingerprint(Later(name="a")) == fingerprint(Nest(name="a"))
    with pytest.raises(Drift, match="warm was False and is now True"):
        check_drift(stored, Later(name="a"))


def test_drift_is_found_inside_specs_and_lists():
    nest = Nest(name="a", eggs=(Egg(), Egg()))
    stored = encode(nest)
    stored["eggs"][1]["grams"] = 55.0
    stored["inside"]["colour"] = "brown"
    with pytest.raises(Drift) as error:
        check_drift(stored, nest)
    assert "eggs[1].grams was 55.0 and is now 60.0" in str(error.value)
    assert "inside.colour was 'brown' and is now 'white'" in str(error.value)


def test_a_field_that_is_new_since_is_no_drift():
    stored = encode(Nest(name="a"))
    del stored["warm"]
    check_drift(stored, Nest(name="a"))


def test_a_flat_row_names_every_leaf():
    assert flatten(encode(Nest(name="a", inside=Shell(layers=3)))) == {
        "type": "Nest",
        "name": "a",
        "eggs": "[]",
        "inside.type": "Shell",
        "inside.layers": 3,
        "size": "[1, 2.0]",
        "warm": False,
    }


def test_specs_cannot_be_edited():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Egg().grams = 3.0  # type: ignore[misc]
