"""The decoding processes: warm, reused, killable, and gone with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from descore.video import (
    IMPORTS,
    JUDGING,
    UPLOADS,
    FramePolicy,
    Lane,
    VideoClip,
    VideoMissingError,
    VideoTimeoutError,
    probe,
    read_clip,
    read_clips,
    shut_down,
    warm_up,
    worker_pool,
)
from descore.video.worker_pool import PROCESSES, worker_pids
from tests.helpers.barcode_clips import numbers, write_clip
from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until

ALL = FramePolicy(fps=24, min_frames=1, max_frames=400)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", 24)


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def run_script(source: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_warm_processes_are_reused(clip: Path) -> None:
    shut_down()
    warm_up()
    pids = set(worker_pids())
    assert len(pids) == PROCESSES
    for _ in range(5):
        read_clip(clip, ALL)
    read_clips([clip, clip, clip], ALL)
    assert set(worker_pids()) == pids


def test_a_relative_path_is_that_of_the_caller(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_clip(clip, ALL)  # the process was started in another folder
    monkeypatch.chdir(clip.parent)
    assert read_clip(clip.name, ALL).frames.shape == read_clip(clip, ALL).frames.shape
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(VideoMissingError, match=r"nowhere\.mp4") as caught:
        read_clip("nowhere.mp4", ALL)
    assert str(tmp_path.parent) not in str(caught.value)


def test_warming_up_does_not_wait_for_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    shut_down()
    monkeypatch.setattr(worker_pool, "_COMMAND", "import time; time.sleep(300)")
    warm_up()
    assert len(worker_pids()) == PROCESSES, "they have ended, so it waited until then"
    shut_down()


def test_a_warm_read_starts_no_process(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up()
    read_clips([clip, clip], ALL)
    monkeypatch.setattr(worker_pool, "_Worker", lambda *_: pytest.fail("a process was started"))
    read_clips([clip, clip], ALL)


def test_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{n}.mp4", n) for n in range(2, 18, 2)]
    with ThreadPoolExecutor(8) as threads:
        clips = list(threads.map(lambda path: read_clip(path, ALL), paths * 3))
    assert [numbers(c.frames) for c in clips] == [list(range(n)) for n in range(2, 18, 2)] * 3
    assert len(worker_pids()) <= PROCESSES


@pytest.mark.slow
def test_a_hanging_process_is_killed_and_replaced(clip: Path) -> None:
    warm_up()
    read_clips([clip, clip], ALL)
    stopped = worker_pids()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(VideoTimeoutError, match=r"0\.5 s"):
        read_clip(clip, ALL, timeout=0.5)
    with pytest.raises(VideoTimeoutError):
        read_clip(clip, ALL, timeout=0.5)
    assert numbers(read_clip(clip, ALL).frames) == list(range(24))
    assert all(gone(pid) for pid in stopped)


@pytest.mark.slow
def test_a_process_that_died_is_replaced(clip: Path) -> None:
    warm_up()
    read_clip(clip, ALL)
    for pid in worker_pids():
        os.kill(pid, signal.SIGKILL)
    assert numbers(read_clip(clip, ALL).frames) == list(range(24))


@pytest.mark.slow
def test_a_process_that_dies_in_mid_request_costs_only_time(clip: Path) -> None:
    read_clips([clip, clip], ALL)
    for pid in worker_pids():
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(read_clip, clip, ALL)
        wait_until(lambda: len(worker_pool._pools["judging"]._busy) == 1, "decoding in a process")
        for pid in worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert numbers(waiting.result(timeout=120).frames) == list(range(24))


@pytest.mark.slow
def test_processes_end_with_their_parent(clip: Path, tmp_path: Path) -> None:
    for ending in ("pass", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"):
        result = run_script(
            f"""
            import sys
            from descore.video import FramePolicy, read_clip, warm_up
            from descore.video.worker_pool import worker_pids
            warm_up()
            read_clip(sys.argv[1], FramePolicy())
            print(*worker_pids(), flush=True)
            {ending}
            """,
            tmp_path,
            str(clip),
        )
        pids = [int(word) for word in result.stdout.split()]
        assert len(pids) == PROCESSES, result.stderr
        wait_until(lambda pids=pids: all(gone(pid) for pid in pids), "the end of the decoding processes")


@pytest.mark.slow
def test_the_parents_main_module_is_not_run_again(clip: Path, tmp_path: Path) -> None:
    """A script without a __main__ guard, beside modules that shadow what the child imports, works."""
    (tmp_path / "av.py").write_text("raise RuntimeError('the wrong av')")
    result = run_script(
        """
        import os, sys
        with open("runs", "a") as runs:
            runs.write("x")
        sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
        from descore.video import FramePolicy, read_clip
        print(len(read_clip(sys.argv[1], FramePolicy()).frames))
        """,
        tmp_path,
        str(clip),
    )
    assert result.stdout.strip() == "4", result.stderr
    assert (tmp_path / "runs").read_text() == "x"


def test_the_child_imports_no_torch() -> None:
    source = (
        "import sys, descore.video.worker, descore.video.read_frames, descore.video.ingest; "
        "print(sorted({'torch', 'transformers', 'gradio', 'sqlalchemy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_uses_processes_of_its_own(clip: Path, tmp_path: Path) -> None:
    result = run_script(
        """
        import os, sys
        from descore.video import FramePolicy, read_clip
        from descore.video.worker_pool import worker_pids
        read_clip(sys.argv[1], FramePolicy())
        mine = set(worker_pids())
        child = os.fork()
        clip = read_clip(sys.argv[1], FramePolicy())
        assert len(clip.frames) == 4
        if child == 0:
            sys.exit(3 if mine & set(worker_pids()) else 0)
        _, status = os.waitpid(child, 0)
        assert mine == set(worker_pids())
        print("status", os.waitstatus_to_exitcode(status))
        """,
        tmp_path,
        str(clip),
    )
    assert result.stdout.strip() == "status 0", result.stderr


# ---- lanes and visitors ---------------------------------------------------------------------------------------------


@pytest.fixture
def stuck_uploads(clip: Path) -> Iterator[list[Future[VideoClip]]]:
    """All processes of the uploads' lane hold a job that does not end, and more uploads wait."""
    shut_down()
    worker_pool._pools["uploads"].warm_up()
    for pid in worker_pids("uploads"):
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(PROCESSES + 3) as threads:
        waiting = [threads.submit(read_clip, clip, ALL, 300, lane=UPLOADS) for _ in range(PROCESSES + 3)]
        wait_until(lambda: len(worker_pool._pools["uploads"]._busy) == PROCESSES, "uploads in all their processes")
        yield waiting
        for pid in worker_pids("uploads"):
            os.kill(pid, signal.SIGCONT)
        assert [numbers(each.result(300).frames) for each in waiting] == [list(range(24))] * len(waiting)


@pytest.mark.slow
def test_judging_and_imports_go_on_while_uploads_are_saturated(clip: Path, stuck_uploads: list[Future[VideoClip]]) -> None:
    assert numbers(read_clip(clip, ALL).frames) == list(range(24))
    assert [len(each.frames) for each in read_clips([clip, clip, clip], ALL)] == [24] * 3
    assert probe(clip, lane=IMPORTS).frames == 24
    assert not any(each.done() for each in stuck_uploads)
    lanes = [set(worker_pids(name)) for name in ("judging", "uploads", "imports")]
    assert sum(map(len, lanes)) == len(set().union(*lanes)), "each lane has processes of its own"


@pytest.mark.slow
def test_a_visitor_holds_one_process_and_waits_without_one(clip: Path) -> None:
    warm_up()
    read_clips([clip, clip], ALL)
    for pid in worker_pids():
        os.kill(pid, signal.SIGSTOP)
    pool = worker_pool._pools["judging"]
    with ThreadPoolExecutor(4) as threads:
        greedy = [threads.submit(read_clip, clip, ALL, 300, lane=Lane("judging", "192.0.2.1")) for _ in range(3)]
        wait_until(lambda: worker_pool._turns._visitors["192.0.2.1"][1] == 3, "three requests of one visitor")
        wait_until(lambda: len(pool._busy) == 1, "the first of them in a process")
        other = threads.submit(read_clip, clip, ALL, 300, lane=Lane("judging", "192.0.2.2"))
        wait_until(lambda: len(pool._busy) == 2, "the other visitor in the second process")
        held = {worker.pid for worker in pool._busy}
        for pid in held:
            os.kill(pid, signal.SIGCONT)
        assert len(other.result(300).frames) == 24
        assert [len(each.result(300).frames) for each in greedy] == [24] * 3
    assert worker_pool._turns._visitors == {}


def test_a_turn_is_given_back_after_an_error(tmp_path: Path) -> None:
    lane = Lane("judging", "192.0.2.1")
    for _ in range(2):
        with pytest.raises(VideoMissingError):
            read_clip(tmp_path / "nowhere.mp4", ALL, lane=lane)
    assert worker_pool._turns._visitors == {}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "nice"), reason="processes have no niceness here")
def test_only_processes_in_the_background_give_way(clip: Path) -> None:
    for lane in (JUDGING, UPLOADS, IMPORTS):
        read_clip(clip, ALL, lane=lane)
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    for lane, niceness in ((JUDGING, 0), (UPLOADS, 10), (IMPORTS, 10)):
        assert {os.getpriority(os.PRIO_PROCESS, pid) - mine for pid in worker_pids(lane.name)} == {niceness}
