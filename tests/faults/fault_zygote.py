"""Starts programs quickly: everything is imported once, and each program is a fork of that.

Listens on the Unix socket given as the first argument. A request is a line of JSON ``{"argv", "env"}`` with
the descriptors of stdin, stdout, stderr and the events; the answers are the process id, then the status and
the most memory (KB) of `os.wait4`. Ends when its parent does.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
import termios
import threading
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def serve(path: str) -> None:
    """Fork for every request until standard input closes."""
    import fault_program
    import pyarrow.parquet  # noqa: F401

    with contextlib.suppress(ImportError):
        import aiorecord.cli.commands.check  # noqa: F401

    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    selector.register(0, selectors.EVENT_READ, None)
    os.write(1, b"ready\n")
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                return
            if key.fileobj is listener:
                _start(listener, selector, fault_program)
            else:
                pid, connection = key.data
                selector.unregister(key.fileobj)
                os.close(key.fd)
                _, status, usage = os.wait4(pid, 0)
                with contextlib.suppress(OSError):
                    connection.sendall(f"{status} {usage.ru_maxrss}\n".encode())
                connection.close()


def _start(listener: socket.socket, selector: selectors.BaseSelector, program) -> None:
    connection, _ = listener.accept()
    message, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    request = json.loads(message)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a thread of a library's allocator: harmless
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            listener.close()
            selector.close()
            os.setsid()
            for number, fd in enumerate(fds[:3]):
                os.dup2(fd, number)
                os.close(fd)
            connection.close()
            if "FAULT_TERMINAL" in request["env"]:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.environ.update(request["env"])
            os.environ["FAULT_EVENTS"] = str(fds[3])
            if "FAULT_KILL" in request["env"]:
                os.environ["FAULT_KILL"] = f"{os.getpid()}:{request['env']['FAULT_KILL']}"
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as the interpreter does
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            code = program.run(request["argv"])
            threading._shutdown()  # a thread that is left keeps a real program from ending
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 1
        except BaseException:  # noqa: BLE001 - printed, as the interpreter does
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    for fd in fds:
        os.close(fd)
    connection.sendall(f"{pid}\n".encode())
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))


if __name__ == "__main__":
    serve(sys.argv[1])
