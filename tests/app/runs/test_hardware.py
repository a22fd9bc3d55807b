"""What of this machine is in use: the real figures, and the lines of NVIDIA's program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.runs.hardware import Hardware, read_gpus, read_hardware
from app.train.views.hardware import hardware_view
from storage.training.preflight import Preflight

# As nvidia-smi 550 writes them; a machine in pieces (MIG) does not know how busy it is.
LINES = """\
0, NVIDIA H100 80GB HBM3, 40960, 81559, 97
1, NVIDIA H100 80GB HBM3, 4, 81559, [N/A]
No devices were found
"""


def test_the_figures_are_this_machines(tmp_path: Path) -> None:
    hardware = read_hardware(tmp_path, None)
    assert hardware.processor
    assert hardware.cores >= 1
    assert hardware.load >= 0
    assert 0 < hardware.memory.used < hardware.memory.total
    assert 0 < hardware.disk.share < 1
    assert 1e9 < hardware.memory.total < 1e14, "bytes"


def test_gpus_are_read_and_a_figure_that_is_not_known_is_left_out() -> None:
    first, second = read_gpus(LINES)
    assert (first.device, first.name, first.busy) == ("cuda:0", "NVIDIA H100 80GB HBM3", 0.97)
    assert round(first.memory.share, 3) == round(40960 / 81559, 3)
    assert first.memory.total == 81559 * 2**20
    assert second.busy is None
    assert read_gpus("") == read_gpus("0, no figures") == ()


def test_without_the_program_the_preflights_figures_do(tmp_path: Path) -> None:
    preflight = Preflight(device="cuda:0", device_name="8 x H100", memory_total=80e9, memory_free=60e9)
    hardware = read_hardware(tmp_path, preflight)
    if not hardware.gpus[0].name.startswith("NVIDIA"):  # a machine with the program has its own
        assert [(gpu.name, gpu.memory.used) for gpu in hardware.gpus] == [("8 x H100", 20e9)]
    assert read_hardware(tmp_path, Preflight(device="cpu")).gpus == () or hardware.gpus[0].name.startswith("NVIDIA")


def test_a_meter_says_what_it_shows_and_is_marked_when_little_is_left(tmp_path: Path) -> None:
    hardware: Hardware = replace(read_hardware(tmp_path, None), gpus=read_gpus(LINES))
    html = str(hardware_view(hardware, [], "bundled <v1>"))
    assert 'aria-label="cuda:0, 42.9 GB of 85.5 GB in use, 97\N{NARROW NO-BREAK SPACE}% busy"' in html
    assert "bundled &lt;v1&gt; judges" in html
    room = hardware.disk
    assert "is-full" in str(hardware_view(replace(hardware, disk=replace(room, used=0.95 * room.total)), [], ""))
