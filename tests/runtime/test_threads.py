"""Laws of the limit on the BLAS, which is the whole process's, and of our own threads beside it.

Every case is a process of its own whose BLAS begins with two threads; threadpoolctl tells what it has.
"""

import contextlib
import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from meanfield.errors import InputError
from meanfield.runtime import threads as runtime_threads
from meanfield.runtime.threads import Workers, on_threads, single_threaded_blas

COMMON = """
import os, sys, threading
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
from meanfield.runtime.threads import on_threads, single_threaded_blas

def blas():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

threadpool_limits(2, "blas")
assert blas() == {2}, blas()
"""


def check(code, **env):
    """Run a script in a process of its own, which must end well and in time: no hang."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", **env}
    done = subprocess.run(
        [sys.executable, "-c", COMMON + code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_two_holders_may_overlap_in_any_way():
    """The first leaves before the second: one thread until then, and what was before after both."""
    check("""
first, second = single_threaded_blas(), single_threaded_blas()
first.__enter__()
second.__enter__()
assert blas() == {1}
first.__exit__(None, None, None)
assert blas() == {1}, "the second still holds it"
second.__exit__(None, None, None)
assert blas() == {2}, "nobody does"
""")


def test_holders_may_be_nested_and_on_threads_at_that():
    """A task of on_threads, on whichever thread, may hold it too: nothing waits for itself."""
    check("""
seen = []
def task(i):
    with single_threaded_blas(), single_threaded_blas():
        seen.append(blas())
with single_threaded_blas():
    on_threads(task, range(8), 3)
    assert blas() == {1}
assert seen == [{1}] * 8
assert blas() == {2}
""")


def test_many_threads_that_come_and_go_leave_what_was():
    """Each finds one thread inside whenever it looks, and two are back at the end."""
    check("""
wrong = []
def come_and_go():
    for _ in range(50):
        with single_threaded_blas():
            if blas() != {1}:
                wrong.append(blas())
threads = [threading.Thread(target=come_and_go) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not wrong and blas() == {2}, (wrong, blas())
""")


def test_an_exception_inside_puts_back_what_was():
    """From the block itself, and from a task on our threads."""
    check("""
def fail(i):
    raise KeyError(i)
for attempt in (lambda: on_threads(fail, range(4), 2), lambda: on_threads(fail, range(4), 1)):
    try:
        with single_threaded_blas():
            attempt()
    except KeyError:
        pass
    else:
        raise AssertionError("swallowed")
    assert blas() == {2}
""")


def test_a_library_that_came_later_is_limited_too():
    """SciPy's own BLAS, loaded after a first use, and even while another holder is inside."""
    check("""
if "scipy.linalg" in sys.modules:
    raise AssertionError("the case needs a process without SciPy")
with single_threaded_blas():
    before = len(threadpool_info())
    import scipy.linalg
    threadpool_limits(2, "blas")
    with single_threaded_blas():
        assert blas() == {1}, blas()
assert blas() == {2}, blas()
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_while_another_thread_holds_it_does_not_keep_it_for_ever():
    """That thread does not exist in the child: once the child's own holder has left, two threads are back."""
    check("""
inside, done = threading.Event(), threading.Event()
def hold():
    with single_threaded_blas():
        inside.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
pid = os.fork()
if pid == 0:
    with single_threaded_blas():
        one = blas() == {1}
    os._exit(0 if one and blas() == {2} else 3)
status = os.waitpid(pid, 0)[1]
done.set()
thread.join()
assert os.waitstatus_to_exitcode(status) == 0 and blas() == {2}
""")


def test_holding_it_costs_microseconds():
    """Libraries are found once, not at every entry (milliseconds each)."""
    check("""
import time
def hold():
    began = time.perf_counter()
    with single_threaded_blas():
        pass
    return time.perf_counter() - began
hold()
assert np.median([hold() for _ in range(100)]) < 5e-4
""")


class OfEachThread:
    """Like OpenBLAS over OpenMP: whoever asks has a limit of its own, at first four threads."""

    internal_api, threading_layer, filepath = "openblas", "openmp", "library"

    def __init__(self):
        self.limits = threading.local()

    @property
    def num_threads(self):
        return getattr(self.limits, "number", 4)

    def set_num_threads(self, number):
        self.limits.number = number


def test_a_limit_of_each_thread_is_set_and_put_back_in_each(monkeypatch):
    """On the threads of on_threads too, and on no other."""
    library, seen = OfEachThread(), []
    monkeypatch.setattr(runtime_threads._BlasLimit, "_loaded", lambda self: [library])
    with single_threaded_blas():
        with single_threaded_blas():
            on_threads(lambda i: seen.append(library.num_threads), range(6), 3)
            elsewhere = threading.Thread(target=lambda: seen.append(library.num_threads))
            elsewhere.start()
            elsewhere.join()
        assert library.num_threads == 1
    assert library.num_threads == 4
    assert seen == [1] * 6 + [4]


def threads_used(threads=None):
    """How many threads take part in eight tasks, where each of the first two waits for the other for a while."""
    gate, used = threading.Barrier(2), set()

    def task(_):
        used.add(threading.get_ident())
        with contextlib.suppress(threading.BrokenBarrierError):
            gate.wait(1.0)

    on_threads(task, range(8), threads)
    return len(used)


def test_our_threads_follow_the_environment(monkeypatch):
    """MEANFIELD_NUM_THREADS reaches what the kernels run on; a number of threads that is named comes before it."""
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "1")
    assert threads_used() == 1
    assert threads_used(2) == 2
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "2")
    assert threads_used() == 2
    with pytest.raises(InputError, match=r"threads = 0: expected at least 1"):
        on_threads(print, range(3), 0)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_workers_starts_threads_of_its_own(duplicate):
    """Even where the original's are running; both share out the same blocks to the same sum."""

    def add(ticket, limbs):
        limbs[0, 0] += 1

    workers = Workers(2)
    total = workers.run(add, 5, (), 1)
    again = duplicate(workers)
    assert again.threads == 2
    assert np.array_equal(again.run(add, 5, (), 1), total)
    assert again._pool is not workers._pool
