"""How instructions are counted by thread, and when a count is refused. No server is started here."""

import pytest

from loadtests import threads
from loadtests.threads import CallgrindOfThreads, Thread, instructions, is_native, places, read
from loadtests.twins import interpreter, spinner

PID = 4711
SHARD, RUNNER = "servekit-shard-", "servekit-runner"
SCHEDULER = """\
sched status:
  running_tid=7

Thread 1: status = VgTs_WaitSys syscall 202 (lwpid 1045)
==1045==    at 0x4E85F16: __futex_abstimed_wait_common (futex-internal.c:57)
Thread 7: status = VgTs_Runnable (lwpid 1547)
Thread 8: status = VgTs_Empty (lwpid 0)
"""


def dump(place, instructions, *files):
    objects = "".join(f"ob=({number}) {file}\nfn=(1) run\n1 1\n" for number, file in enumerate(files))
    totals = f"events: Ir\nsummary: {instructions}\n\n{objects}\ntotals: {instructions}\n"
    return f"pid: {PID}\npart: 1\nthread: {place}\n\n{totals}"


class Played(CallgrindOfThreads):
    """Callgrind that writes dumps of its own, and whose threads change while it counts."""

    def __init__(self, folder, written, alive):
        super().__init__()
        self.launch(folder)
        self.written, self.alive = written, iter(alive)

    def control(self, order, pid):
        if order == "--dump":
            for place, instructions in self.written.items():
                (self.folder / f"counts.{pid}.1-{place:02}").write_text(dump(place, instructions, "/lib/libc.so.6"))

    def numbers(self, pid):
        return next(self.alive)


def test_threads_that_serve_are_known_by_the_name_that_the_system_keeps():
    names = (SHARD, RUNNER, "servekit-watch", "python", "servekit")
    assert [name for name in names if is_native(name)] == [SHARD, RUNNER]


def test_threads_of_valgrind_are_those_of_the_system_that_live():
    assert places(SCHEDULER) == {1: 1045, 7: 1547}
    with pytest.raises(RuntimeError, match="valgrind names no threads"):
        places("Invalid command")


def test_a_dump_is_a_thread_with_its_instructions_and_files():
    assert read(dump(3, 120, "/usr/lib/libc.so.6", "???")) == (3, (120, frozenset({"libc.so.6", "???"})))
    with pytest.raises(RuntimeError, match="no counts of one thread"):
        read("thread: 3\n")
    with pytest.raises(RuntimeError, match="no counts of one thread"):
        read("totals: 3\n")


def test_each_thread_is_counted_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "named", lambda _: {10: SHARD, 11: RUNNER, 12: "python"})
    alive = {1: 10, 2: 11, 3: 12}
    counted = Played(tmp_path, {1: 30, 2: 400, 3: 5_000}, [alive, alive]).count(PID, lambda: None)
    assert {(one.name, one.instructions) for one in counted} == {(SHARD, 30), (RUNNER, 400), ("python", 5_000)}
    assert instructions(counted) == 430


def test_earlier_dumps_and_those_of_other_processes_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "named", lambda _: {10: SHARD, 11: RUNNER})
    for name in (f"counts.{PID}.0-02", "counts.9.1-02"):
        (tmp_path / name).write_text(dump(2, 999))
    alive = {1: 10, 2: 11}
    assert instructions(Played(tmp_path, {1: 30, 2: 400}, [alive, alive]).count(PID, lambda: None)) == 430


def test_a_place_that_another_thread_has_taken_is_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "named", lambda _: {10: SHARD, 11: RUNNER, 13: RUNNER})
    before, after = {1: 10, 2: 11, 3: 12}, {1: 10, 2: 11, 3: 13}
    counted = Played(tmp_path, {1: 30, 2: 400, 3: 5_000}, [before, after]).count(PID, lambda: None)
    assert instructions(counted) == 430


@pytest.mark.parametrize("written", [{}, {1: 30}, {1: 30, 2: 0}])
def test_a_count_without_those_that_serve_is_refused(tmp_path, monkeypatch, written):
    monkeypatch.setattr(threads, "named", lambda _: {10: SHARD, 11: RUNNER})
    alive = {1: 10, 2: 11}
    with pytest.raises(RuntimeError, match="servekit-runner are needed"):
        Played(tmp_path, written, [alive, alive]).count(PID, lambda: None)


# The interpreter ------------------------------------------------------------------------------------------------------


class Here:
    client_processor = 1


class Asked:
    name = "text"


def ratio_of(monkeypatch, spun, files=("_native.abi3.so",)):
    """What comes of 1,000 instructions without the thread that spins and 1,010 beside it."""
    shard, spinning = Thread(SHARD, 100, frozenset()), Thread(spinner.NAME, spun, frozenset())
    runners = [Thread(RUNNER, instructions, frozenset(files)) for instructions in (900, 910)]
    counts = iter([[shard, runners[0]], [shard, runners[1], spinning]])
    monkeypatch.setattr(interpreter, "counted", lambda *_: next(counts))
    return interpreter.instructions_ratio(Here, Asked, 10)


def test_the_thread_that_spins_is_in_no_ratio(monkeypatch, capsys):
    assert ratio_of(monkeypatch, 70_000) == pytest.approx(1.01)
    assert (
        "100 a request without, 101 beside a thread that spins (which has 7,000), 1.0100 ×" in capsys.readouterr().out
    )


def test_nothing_is_said_where_no_thread_has_spun(monkeypatch):
    with pytest.raises(RuntimeError, match="0 instructions of the thread that spins"):
        ratio_of(monkeypatch, 0)


@pytest.mark.parametrize("file", ["libpython3.11.so.1.0", "python3.12"])
def test_a_native_thread_in_the_interpreter_is_an_error(monkeypatch, file):
    with pytest.raises(RuntimeError, match=f"{file} found"):
        ratio_of(monkeypatch, 70_000, ("libc.so.6", file))


def test_extensions_are_not_the_interpreter():
    names = ("_native.abi3.so", "state.cpython-311-x86_64-linux-gnu.so", "libonnxruntime.so.1.32.0", "???")
    assert [name for name in names if interpreter.INTERPRETER.fullmatch(name)] == []
