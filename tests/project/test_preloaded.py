"""Processes that tests start as forks: they behave as those that an interpreter starts, and nothing of them is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import preloaded
from tests.support.preloaded import ServerGone

# What a program can see of its own start.
_SEEN = """
import json, locale, os, signal, sys
numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
print(json.dumps({
    "argv": sys.argv, "words": sys.orig_argv, "path": sys.path, "cwd": os.getcwd(),
    "environment": {name: os.environ[name] for name in os.environ if name != "TZ"},  # which the settings set
    "signals": {each: repr(signal.getsignal(each)) for each in numbers},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "main": [__name__, globals().get("__file__"), sys.modules["__main__"].__dict__ is globals()],
    "session": os.getsid(0) if os.getsid(0) != os.getpid() else "own", "parent": os.getppid(),
    "group": os.getpgid(0) if os.getpgid(0) != os.getpid() else "own",
    "streams": [each and [each.encoding, each.errors, each.line_buffering, each.name, each.mode, each.newlines]
                for each in (sys.stdin, sys.stdout, sys.stderr)],
    "open": [each for each in range(100) if os.path.exists(f"/proc/self/fd/{each}")][:20],
    "umask": os.umask(0), "given": sys.stdin and sys.stdin.read(), "locale": locale.getlocale(),
}))
"""
_TASKS = "import django; django.setup(); from django.db import connection; print(connection.settings_dict['NAME'])"
_ELSEWHERE = {"DATABASE_URL": "postgres://a:b@127.0.0.1:1/elsewhere"}


def _both(words: list[str], **options: Any) -> list[subprocess.CompletedProcess[str]]:
    # A library may have set variables behind the back of `os.environ`.
    options = {"capture_output": True, "text": True, "timeout": 120, "env": os.environ} | options
    return [start(words, **options) for start in (subprocess.run, preloaded.run)]


_WAYS = ("-c", "-m", "file")
_OPTIONS: list[dict[str, Any]] = [
    {"input": "gr\u00fc\u00df dich"},
    {"cwd": "/"},
    {"start_new_session": True},
    {"process_group": 0},
    {"env": {**os.environ, "TZ": "Asia/Kolkata", "HOME": "/nowhere", "AUDIT_HOME": "/nowhere"}},
    {"env": {**os.environ, "PYTHONPATH": f"/nowhere:{Path.cwd()}"}},
    {"env": {**os.environ, "PYTHONIOENCODING": "latin-1"}},
    {"env": {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "DJANGO"))}},
    {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "capture_output": False, "stdout": subprocess.PIPE},
]


@pytest.mark.parametrize(
    ("way", "options"),
    [
        *(pytest.param(way, {}, id=way) for way in _WAYS),
        *(
            pytest.param(way, each, id=f"{way}-{'-'.join(each)}")
            for way, each in zip(cycle(_WAYS), _OPTIONS, strict=False)
        ),
    ],
)
def test_a_fork_sees_what_a_started_program_sees(way: str, options: dict[str, Any], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_SEEN)
    words = {"-c": ["-c", _SEEN], "-m": ["-m", "program"], "file": [str(program)]}[way]
    if way == "-m":
        environment = options.get("env", os.environ)
        path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(tmp_path)]))
        options = options | {"env": {**environment, "PYTHONPATH": path}}
    started, forked = _both([sys.executable, *words, "a", "--b"], **options)
    assert json.loads(started.stdout) == json.loads(forked.stdout)
    assert (started.returncode, started.stderr) == (forked.returncode, forked.stderr)
    assert forked.returncode == 0


def test_signals_that_are_ignored_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGHUP, signal.SIGINT)}
    try:
        started, forked = _both([sys.executable, "-c", _SEEN], stdin=subprocess.DEVNULL)
        chosen = preloaded.run(
            [sys.executable, "-c", _SEEN], ignored=[1], stdin=subprocess.DEVNULL, capture_output=True
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert json.loads(started.stdout) == json.loads(forked.stdout)
    signals = json.loads(forked.stdout)["signals"]
    assert signals["1"] == signals["2"] == repr(signal.SIG_IGN)
    signals = json.loads(chosen.stdout)["signals"]
    assert (signals["1"], signals["2"]) == (repr(signal.SIG_IGN), repr(signal.default_int_handler))


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("print('out'); import sys; print('err', file=sys.stderr)", 0),
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit('a last word')", 1),
        ("def broken():\n    raise ValueError('no')\nbroken()", 1),
        ("raise KeyboardInterrupt", -2),
        ("not a program", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os._exit(3)", 3),
        ("import atexit; atexit.register(print, 'at exit'); print('first')", 0),
        ("import threading, time\nthreading.Timer(0.1, lambda: print('from a thread')).start()", 0),
        ("import sys; sys.stdout = open('/dev/full', 'w'); print('lost')", 120),
        ("import sys; sys.stdout.buffer.write(b'no end'); sys.stdout = None", 0),
    ],
)
def test_a_fork_ends_as_a_started_program_ends(program: str, code: int) -> None:
    started, forked = _both([sys.executable, "-c", program])
    assert (started.returncode, started.stdout, started.stderr) == (forked.returncode, forked.stdout, forked.stderr)
    assert forked.returncode == code


@pytest.mark.parametrize("words", [["-m", "no_such_module"], ["no_such_file.py"]])
def test_what_is_not_there_is_told(words: list[str]) -> None:
    for done in _both([sys.executable, *words]):
        assert done.returncode
        assert words[-1] in done.stderr


def test_forks_read_the_settings_anew() -> None:
    usual, elsewhere = (
        preloaded.run([sys.executable, "-c", _TASKS], capture_output=True, text=True, env=os.environ | more)
        for more in ({}, _ELSEWHERE)
    )
    assert (usual.stderr, elsewhere.stderr) == ("", "")
    assert elsewhere.stdout == "elsewhere\n" != usual.stdout


def test_what_a_fork_cannot_do_is_started() -> None:
    loaded = [sys.executable, "-c", "import sys; print('django' in sys.modules, sys.flags.dev_mode)"]

    def said(*flags: str, **more: str) -> str:
        words = [loaded[0], *flags, *loaded[1:]]
        return preloaded.run(words, capture_output=True, text=True, env=os.environ | more).stdout

    assert said() == "True False\n"
    assert said("-X", "dev") == said(PYTHONDEVMODE="1") == "False True\n"
    assert said(TIME_ZONE="Europe/Berlin") == said(DJANGO_SETTINGS_MODULE="no.such") == "False False\n"


def test_no_two_forks_have_the_same_chance() -> None:
    program = "import random, uuid, secrets; print(random.random(), uuid.uuid4(), secrets.token_hex())"
    said = [preloaded.run([sys.executable, "-c", program], capture_output=True).stdout.split() for _ in range(2)]
    assert not set(said[0]) & set(said[1])


def test_descriptors_keep_their_numbers() -> None:
    reader, writer = os.pipe()
    try:
        program = f"import os; os.write({writer}, b'here')"
        assert preloaded.run([sys.executable, "-c", program], pass_fds=[writer]).returncode == 0
        assert os.read(reader, 9) == b"here"
        assert preloaded.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode == 1
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def _waiting(program: str = "", **options: Any) -> Iterator[preloaded.Popen]:
    code = f"import os, sys, time, signal; {program}\nprint('ready', flush=True); time.sleep(1000)"
    with preloaded.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(number: int) -> None:
    with _waiting(ignored=[], stderr=subprocess.DEVNULL) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(120) == -number
    assert not psutil.pid_exists(process.pid)


def test_it_is_a_child_with_a_group_of_its_own() -> None:
    with _waiting(process_group=0) as process:
        assert psutil.Process(process.pid).ppid() == os.getpid()
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(120) == -signal.SIGTERM


def test_many_at_once() -> None:
    words = [sys.executable, "-c", "import sys; sys.exit(int(sys.stdin.read()))"]
    processes = [preloaded.Popen(words, stdin=subprocess.PIPE, text=True) for _ in range(20)]
    for number in random.sample(range(20), 20):
        processes[number].communicate(str(number), 120)
    assert [each.returncode for each in processes] == list(range(20))


def test_children_of_a_fork_are_forks() -> None:
    program = """
        import os, subprocess, sys
        child = [sys.executable, "-c", "import os, sys; print(os.getppid(), 'django' in sys.modules)"]
        for _ in range(2):
            assert subprocess.run(child, capture_output=True, text=True).stdout == f"{os.getpid()} True\\n"
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], process_group=0)
        os.killpg(process.pid, 9)
        assert os.wait4(process.pid, 0)[1] == 9
        print("fine")
    """
    done = preloaded.run(
        [sys.executable, "-c", textwrap.dedent(program)], forks=True, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_is_gone_is_told_and_replaced(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-c", ""]
    assert preloaded.run(words).returncode == 0
    server = preloaded.servers.SERVERS["tests.settings"]
    if number == signal.SIGSTOP:
        server._connection.settimeout(0.1)
    with _waiting() as process:
        os.kill(server.pid, number)
        with pytest.raises(ServerGone, match="The process that forks for tests is gone"):
            preloaded.run(words)
        assert _gone(server.pid)
        assert process.poll() is None
        assert preloaded.run(words).returncode == 0
        assert preloaded.servers.SERVERS["tests.settings"].pid != server.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_server_outlives_who_asked_it(number: int) -> None:
    program = """
        import os, subprocess, sys, time
        from tests.support import preloaded
        preloaded.run([sys.executable, "-c", ""])
        words = [sys.executable, "-c", "import time; print(flush=True); time.sleep(1000)"]
        child = preloaded.Popen(words, stdout=subprocess.PIPE, forks=True)
        child.stdout.readline()
        print(child.pid, *(each.pid for each in preloaded.servers.SERVERS.values()), flush=True)
        time.sleep(1000)
    """
    words = [sys.executable, "-c", textwrap.dedent(program)]
    # As a terminal does: to the whole group. Whoever runs the tests may ignore the signal, and this program must not.
    usual = partial(signal.signal, signal.Signals(number), signal.SIG_DFL) if number != signal.SIGKILL else None
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "process_group": 0}
    with subprocess.Popen(words, text=True, preexec_fn=usual, **options) as asker:
        try:
            assert asker.stdout
            child, server = map(int, asker.stdout.readline().split())
            below = [each.pid for each in psutil.Process(child).children()]
            assert len(below) == 1
            os.killpg(asker.pid, number)
            assert asker.wait(120) == -number
        finally:
            asker.kill()
    for each in (child, server, *below):
        _eventually(lambda each=each: _gone(each))


def test_a_shell_starts_forks() -> None:
    program = "import os, sys; print('django' in sys.modules, sys.argv[1:], sys.stderr); sys.exit(int(sys.argv[1]))"

    def said(redirect: str, *words: str, **more: str) -> tuple[int, str]:
        shell = ["sh", "-c", f'"$@" {redirect}', "sh", *preloaded.for_shells(), *words]
        done = subprocess.run(shell, capture_output=True, text=True, env=os.environ | more, timeout=120)
        return done.returncode, done.stdout

    assert said("2>&-", "-c", program, "7") == (7, "True ['7'] None\n")
    assert said("", "-c", "import os; os.kill(os.getpid(), 9)") == (128 + 9, "")
    assert said("2>&-", "-c", program, "7", PYTHONUTF8="1")[1].startswith("False")
