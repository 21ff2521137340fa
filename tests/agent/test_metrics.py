"""The load of the machine that heartbeats report."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import metrics

VM_STAT = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10.
Pages active:                             30.
Pages inactive:                           20.
Pages speculative:                         5.
Pages throttled:                           0.
Pages wired down:                         25.
Pages purgeable:                           5.
"Translation faults":                 999999.
Pages occupied by compressor:              5.
"""


def test_the_metrics_are_percentages(tmp_path: Path) -> None:
    read = metrics.Metrics(tmp_path).read()
    assert set(read) == {"cpu_percent", "memory_percent", "disk_percent"}
    assert all(0 <= figure <= 100 for figure in read.values())
    assert read["memory_percent"] > 0


def test_a_busy_processor_raises_the_cpu_percentage(tmp_path: Path) -> None:
    figures = metrics.Metrics(tmp_path)
    total = 0
    while figures.read()["cpu_percent"] == 0:
        total += sum(range(100_000))
        assert total < 10**13


def test_the_metrics_exist_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_STAT", tmp_path / "missing")
    monkeypatch.setattr(metrics, "_MEMINFO", tmp_path / "missing")
    read = metrics.Metrics(tmp_path).read()
    assert 0 <= read["cpu_percent"] <= 100
    assert read["memory_percent"] == 0


def test_the_memory_of_a_mac_is_read_from_vm_stat() -> None:
    assert metrics.vm_stat_share(VM_STAT) == pytest.approx(0.6)
    assert metrics.vm_stat_share("") == 0
