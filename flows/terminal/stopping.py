"""How a command ends that is stopped: by ctrl-C, SIGTERM, a closed terminal, a reader of its output that went away.

Finished work is kept at whatever moment a process ends (its receipts say what is finished), so nothing is unwound: the
processes that it started are ended, files that it was writing are removed, one line is written, and it is gone.
Unwinding would wait for threads of Prefect, Ray and torch, which hear no signal and say much while they end.
"""

import contextvars
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import ParamSpec, TypeVar

STOPPED = "stopped; finished work is kept; run the same command to go on"
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
READER_WENT = 128 + 13  # SIGPIPE
LAST_WORDS_S = 2.0  # of callbacks, all together
_callbacks: list[Callable[[], None]] = []
_ending = threading.Lock()
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def hear_signals() -> Iterator[None]:
    """End this process when it is told to. A signal that whoever started it ignores stays ignored (`nohup`, `&`)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, _hear)
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


@contextmanager
def leave_signals() -> Iterator[None]:
    """For a command that ends by itself when it is told to: here signals do what they do in any Python program."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is _hear}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_stoppable(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return what the work returns, which is done in a thread: the main thread hears signals whatever it is busy with.

    Nor can Prefect take SIGTERM over there. Processes that the work starts do not hear the ctrl-C of a terminal, which
    reaches all of its processes: this one ends them. Errors: those of the work.
    """
    from tailforge.flows.terminal.heartbeat import break_silence  # which needs this file

    done = threading.Event()
    made: list[T] = []
    errors: list[BaseException] = []

    def do_work() -> None:
        shield_children()
        try:
            with break_silence(next(iter(sys.argv[1:]), work.__name__)):
                made.append(work(*args, **named))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(do_work,), name="work", daemon=True).start()
    done.wait()
    if errors:
        raise errors[0]
    return made[0]


def shield_children() -> None:
    """See that what this thread starts hears no ctrl-C; done again after what takes the shield away."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


@contextmanager
def on_stop(callback: Callable[[], None]) -> Iterator[None]:
    """Call this if the process is stopped meanwhile; its errors are passed over, and it is not waited for long."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def end_with_reader() -> None:
    """After a command: end as other programs do if the reader of its output went away (`| head`), without a word."""
    error = sys.exc_info()[1]
    went = [error, error.__context__] if error is not None else []  # typer and rich turn it into SystemExit
    try:
        sys.stdout.flush()
    except BrokenPipeError as broken:
        went.append(broken)
    if any(isinstance(each, BrokenPipeError) for each in went):
        stop(READER_WENT, "")


def is_ending() -> bool:
    """Whether `stop` is at work: what ends now was ended by it."""
    return _ending.locked()


def stop(code: int, line: str) -> None:
    """End this process and all that it started, at once; `line`, if any, is its last on standard error."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # another thread is about to end it
    _call_all(list(_callbacks))
    _end(code, line)


def _hear(number: int, frame: FrameType | None) -> None:
    if is_ending():  # told again: no last words
        _end(128 + number, STOPPED)
    stop(128 + number, STOPPED)


def _end(code: int, line: str) -> None:
    _kill_children()
    if temporaries := sys.modules.get(
        "tailforge.catalog.temporaries"
    ):  # not imported here: ctrl-C is heard before much is
        temporaries.drop_held()
    if line:  # not through sys.stderr, whose lock another thread may hold; a live display hides the cursor
        start = "\x1b[?25h\n" if os.isatty(2) else ""
        with suppress(OSError):
            os.write(2, f"{start}{line}\n".encode())
    os._exit(code)


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    def call_each() -> None:
        for callback in callbacks:
            with suppress(Exception):
                callback()

    if callbacks:
        calls = threading.Thread(target=call_each, daemon=True)
        calls.start()
        calls.join(LAST_WORDS_S)


def _kill_children() -> None:
    """Whatever this process started, and what that started."""
    try:
        from psutil import Error, Process, wait_procs
    except ImportError:  # a consumer's installation, whose commands start nothing; or the signal came amid its import
        return
    with suppress(Error):
        children = Process().children(recursive=True)
        for child in children:
            with suppress(Error):
                child.kill()
        wait_procs(children, timeout=1)
