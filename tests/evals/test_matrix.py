"""Configurations x tasks x repeats."""

from langchain_finops.evals.dataset import Item
from langchain_finops.evals.matrix import Configuration, expand, trials


def test_a_matrix_is_every_combination() -> None:
    """Each combination of values is a configuration whose name tells its values."""
    assert [(found.name, dict(found.parameters)) for found in expand({"model": ["a", "b"], "shots": [0, 5]})] == [
        ("model=a, shots=0", {"model": "a", "shots": 0}),
        ("model=a, shots=5", {"model": "a", "shots": 5}),
        ("model=b, shots=0", {"model": "b", "shots": 0}),
        ("model=b, shots=5", {"model": "b", "shots": 5}),
    ]


def test_trials_are_interleaved_over_configurations() -> None:
    """Configurations take turns on each item, so that drift hits all alike."""
    one, two = Configuration(name="one"), Configuration(name="two")
    items = [Item(id=name, inputs={}, outputs={}, line=1) for name in "ab"]

    assert [trial.slot for trial in trials([one, two], items, 2)] == [
        ("one", "a", 0),
        ("two", "a", 0),
        ("one", "b", 0),
        ("two", "b", 0),
        ("one", "a", 1),
        ("two", "a", 1),
        ("one", "b", 1),
        ("two", "b", 1),
    ]


def test_a_renamed_configuration_keeps_its_hash() -> None:
    """The hash is of the parameters; the target is given the name as well."""
    one = Configuration(name="one", parameters={"shots": 5})

    assert one.hash == Configuration(name="two", parameters={"shots": 5}).hash
    assert one.hash != Configuration(name="one", parameters={"shots": 6}).hash
    assert one.for_target() == {"name": "one", "shots": 5}
