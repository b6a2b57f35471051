"""What ranks tell each other, over real gloo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detcore.distributed import Gang, process_group

COLUMNS = 7


def rows_of(rank: int, count: int) -> np.ndarray:
    return 1000.0 * rank + np.arange(count * COLUMNS, dtype=np.float64).reshape(count, COLUMNS)


def gather(rank: int, counts: tuple[int, ...], place: Path) -> None:
    gang = Gang(rank, len(counts), rank)
    with process_group(gang, place / ".meeting", "cpu", timeout_s=60):
        found = gang.gather_rows(rows_of(rank, counts[rank]))
    assert (found is None) == (rank > 0)
    if found is not None:
        np.save(place / "found.npy", found)


@pytest.mark.parametrize("counts", [(2, 5), (0, 3), (3, 0), (0, 0), (1, 0, 4)])
def test_rows_of_all_ranks_come_in_their_order(tmp_path: Path, counts: tuple[int, ...]) -> None:
    """Also where a rank, or none, has any."""
    torch.multiprocessing.spawn(gather, (counts, tmp_path), nprocs=len(counts))
    expected = np.concatenate([rows_of(rank, count) for rank, count in enumerate(counts)])
    found = np.load(tmp_path / "found.npy")
    assert found.shape == (sum(counts), COLUMNS)
    np.testing.assert_array_equal(found, expected)
