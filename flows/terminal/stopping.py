"""Stop a command on ctrl-C, SIGTERM, a closed terminal or a closed reader of its output.

Receipts keep finished work at any moment, so stopping unwinds nothing. It ends child processes, removes partly written
files, writes one line and exits. Unwinding would wait for threads of Prefect, Ray and torch, which ignore signals.
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
LAST_WORDS_S = 2.0  # for all callbacks together
_callbacks: list[Callable[[], None]] = []
_ending = threading.Lock()
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def hear_signals() -> Iterator[None]:
    """End this process on a signal during a with block. Signals that the parent ignores stay ignored (`nohup`)."""
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
    """Restore Python's own signal handlers in a with block, for a command that ends by itself."""
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
    """Run the work in a thread and return its result, so that the main thread can always handle signals.

    Prefect cannot take over SIGTERM in that thread. Child processes do not receive the terminal's ctrl-C; this process
    ends them. Errors: those of the work.
    """
    from tailforge.flows.terminal.heartbeat import break_silence  # it imports this module

    done = threading.Event()
    made: list[T] = []
    errors: list[BaseException] = []

    def do_work() -> None:
        """Keep the work's result or its error."""
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
    """Block ctrl-C in processes that this thread starts. Call it again after code that unblocks the signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


@contextmanager
def on_stop(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` if the process stops during a with block. Its errors are ignored, and the wait is short."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def end_with_reader() -> None:
    """End silently after a command if the reader of its output is gone (`| head`), as other programs do."""
    error = sys.exc_info()[1]
    went = [error, error.__context__] if error is not None else []  # typer and rich turn it into SystemExit
    try:
        sys.stdout.flush()
    except BrokenPipeError as broken:
        went.append(broken)
    if any(isinstance(each, BrokenPipeError) for each in went):
        stop(READER_WENT, "")


def is_ending() -> bool:
    """Return whether `stop` is running; then it caused whatever ends now."""
    return _ending.locked()


def stop(code: int, line: str) -> None:
    """End this process and its children at once; `line`, if any, is the last line on standard error."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # another thread is about to end it
    _call_all(list(_callbacks))
    _end(code, line)


def _hear(number: int, frame: FrameType | None) -> None:
    """Handle a signal: stop the process."""
    if is_ending():  # second signal: skip the callbacks
        _end(128 + number, STOPPED)
    stop(128 + number, STOPPED)


def _end(code: int, line: str) -> None:
    """Kill children, drop temporary files, write the last line and exit."""
    _kill_children()
    # Do not import the module here: ctrl-C may come before most imports.
    if temporaries := sys.modules.get("tailforge.catalog.temporaries"):
        temporaries.drop_held()
    if line:  # not through sys.stderr: another thread may hold its lock, and a live display hides the cursor
        start = "\x1b[?25h\n" if os.isatty(2) else ""
        with suppress(OSError):
            os.write(2, f"{start}{line}\n".encode())
    os._exit(code)


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    """Call the callbacks in a thread, for at most `LAST_WORDS_S`."""

    def call_each() -> None:
        """Call each callback and ignore its errors."""
        for callback in callbacks:
            with suppress(Exception):
                callback()

    if callbacks:
        calls = threading.Thread(target=call_each, daemon=True)
        calls.start()
        calls.join(LAST_WORDS_S)


def _kill_children() -> None:
    """Kill all descendants of this process."""
    try:
        from psutil import Error, Process, wait_procs
    except ImportError:  # a reader's installation starts no processes; or the signal interrupted this import
        return
    with suppress(Error):
        children = Process().children(recursive=True)
        for child in children:
            with suppress(Error):
                child.kill()
        wait_procs(children, timeout=1)
