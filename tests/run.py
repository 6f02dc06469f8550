#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the suites against a built sluice: tests/run.py [-k TEXT] [-v] [--label WORD] [PROGRAM [SUITE...]]

A suite is a folder with test_*.py; a test is a function test_*. One with an argument gets the Core that its module's CONFIG (and FILES, ARGS,
ENV) describes, shared by the module; one without makes its own. Each prints "ok NAME", "not ok NAME: WHY" or "skip NAME: WHY"; the last line
is "N passed, N failed". A module's TIMEOUT (default 30) is the limit of each of its tests in seconds."""
import argparse
import glob
import importlib.util
import inspect
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
import lib  # noqa: E402

SUITES = ("api", "integration", "peers", "reload", "sandbox", "packaging")


class TimeLimit(BaseException):
    """Not an Exception: a test that forgives errors must not forgive this one."""


def on_alarm(*_):
    raise TimeLimit()


class Runner:
    def __init__(self, args):
        self.args, self.passed, self.failed, self.skipped = args, 0, 0, 0

    def report(self, name, why=None, took=0.0):
        name = (self.args.label + "." if self.args.label else "") + name
        if why is None:
            self.passed += 1
            print("ok %s%s" % (name, " (%.1f s)" % took if took > 3 or self.args.verbose else ""), flush=True)
        else:
            self.failed += 1
            print("not ok %s: %s" % (name, why.replace("\n", "\n    ")), flush=True)

    def attempt(self, name, fn, limit, core=None):
        began = time.monotonic()
        why = None
        signal.alarm(int(limit * lib.SLOW))
        try:
            fn()
        except lib.Skip as e:
            signal.alarm(0)
            self.skipped += 1
            print("skip %s: %s" % (name, e), flush=True)
            return True
        except TimeLimit:
            why = "it took longer than %d s at %s" % (limit * lib.SLOW, where())
        except Exception as e:
            why = "%s at %s" % (e if isinstance(e, AssertionError) and str(e) else "%s: %s" % (type(e).__name__, e), where())
        finally:
            signal.alarm(0)
        if why and core and core.proc and core.proc.poll() is not None:
            why += "\nsluice ended with status %s:\n%s" % (core.proc.returncode, core.log()[-2000:])
        elif why and core and self.args.verbose:
            why += "\n" + core.log()[-2000:]
        self.report(name, why, time.monotonic() - began)
        return why is None

    def module(self, suite, path):
        name = "%s.%s" % (suite, os.path.basename(path)[5:-3])
        spec = importlib.util.spec_from_file_location(name.replace(".", "_"), path)
        m = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(m)
        tests = [(n, f) for n, f in vars(m).items() if n.startswith("test_") and inspect.isfunction(f) and f.__module__ == m.__name__]
        tests = [(n, f) for n, f in tests if not self.args.k or self.args.k in "%s.%s" % (name, n[5:])]
        if not tests:
            return
        limit = getattr(m, "TIMEOUT", 30)
        core = None
        if any(inspect.signature(f).parameters for _, f in tests):
            core = lib.Core(m.CONFIG, getattr(m, "FILES", None), getattr(m, "ARGS", ()), getattr(m, "ENV", None), start=False)
            if not self.attempt(name + ".start", core.start, limit, core):
                core.clean()
                self.failed += len(tests)
                print("not ok %s.*: its %d tests were not run" % (name, len(tests)), flush=True)
                return
        for n, f in tests:
            full = "%s.%s" % (name, n[5:])
            if not inspect.signature(f).parameters:
                self.attempt(full, f, limit)
                continue
            if core.proc.poll() is not None:
                self.attempt(full + " (start again)", core.start, limit, core)
            self.attempt(full, lambda f=f: f(core), limit, core)
        if core:
            def end():
                try:
                    lib.eq(core.stop(), 0, "exit status")
                    core.healthy()
                finally:
                    core.clean()
            self.attempt(name + ".clean_end", end, limit, core)


def where():
    """The line of the test that the exception came from."""
    frames = [f for f in traceback.extract_tb(sys.exc_info()[2]) if os.path.basename(f.filename) not in ("run.py", "lib.py")]
    frames = [f for f in frames if f.filename.startswith(HERE)] or traceback.extract_tb(sys.exc_info()[2])
    return "%s:%d" % (os.path.relpath(frames[-1].filename), frames[-1].lineno)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program", nargs="?", default="build/sluice")
    p.add_argument("suite", nargs="*", default=SUITES)
    p.add_argument("-k", help="only tests whose name contains this")
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("--label", default="", help="a word before each name")
    args = p.parse_args()
    lib.PROGRAM = os.path.abspath(args.program)
    if not os.access(lib.PROGRAM, os.X_OK):
        print("not ok suites: there is no %s" % args.program)
        print("0 passed, 1 failed")
        return 1
    if "-asan" in args.program or "-tsan" in args.program:
        lib.SLOW = 3
    for v in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(v, None)
        os.environ.pop(v.upper(), None)
    os.umask(0o022)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGALRM, on_alarm)
    threading.excepthook = lambda e: print("# in a thread: %s: %s" % (e.exc_type.__name__, e.exc_value), flush=True)
    lib.servers = lib.Servers()
    r = Runner(args)
    for suite in args.suite:
        for path in sorted(glob.glob(os.path.join(HERE, suite, "test_*.py"))):
            r.module(suite, path)
    shutil.rmtree(lib.servers.dir, ignore_errors=True)
    if r.skipped:
        print("%d skipped" % r.skipped)
    print("%d passed, %d failed" % (r.passed, r.failed), flush=True)
    return 1 if r.failed or not r.passed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)                # the servers' thread runs for ever
