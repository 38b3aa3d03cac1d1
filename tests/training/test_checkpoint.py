import contextlib
import math
import resource

import pytest
import torch

from parrotlab.training import checkpoint

TENSORS = {
    "weights": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    "none": torch.zeros(0, 4),
    "number": torch.tensor(7.0),
    "counts": torch.arange(4),
}
NOTES = {"step": 12, "seconds": 0.1 + 0.2, "members": ["one", "other"], "loss": math.nan}


@contextlib.contextmanager
def a_disk_with_room_for(size):
    """No file of this process may grow beyond that many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.write(path, TENSORS, NOTES)
    return path


def assert_unharmed(path):
    tensors, notes = checkpoint.read(path)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert repr(notes) == repr(NOTES)  # to the last bit, NaN too


def test_what_was_written_is_read_to_the_last_bit(path):
    assert_unharmed(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_view_is_written_as_it_looks(path):
    checkpoint.write(path, {"turned": TENSORS["weights"].T, "part": TENSORS["weights"][1:, ::2]}, {})
    tensors, notes = checkpoint.read(path)
    assert torch.equal(tensors["turned"], TENSORS["weights"].T)
    assert torch.equal(tensors["part"], TENSORS["weights"][1:, ::2])
    assert notes == {}


def test_a_failed_write_leaves_the_old_checkpoint_and_the_next_one_replaces_it(path):
    larger = {"weights": torch.ones(100_000)}
    with a_disk_with_room_for(50_000), pytest.raises(OSError, match="File too large"):
        checkpoint.write(path, larger, {"step": 13})
    assert_unharmed(path)
    checkpoint.write(path, larger, {"step": 13})
    assert checkpoint.read(path)[1] == {"step": 13}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_checkpoint_is_one_clear_line(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is not a whole checkpoint") as error:
        checkpoint.read(path)
    assert str(path) in str(error.value)
    assert "delete it" in str(error.value)
    assert "\n" not in str(error.value)


def test_something_else_under_that_name_is_one_clear_line(path):
    path.write_bytes(b"not a checkpoint at all, but long enough for a header")
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        checkpoint.read(path)
