"""Runs scenarios, one after the other or in lanes side by side, each in a process and a network namespace of its own: the
ports of every box are the same. What a scenario writes goes out line by line behind its name; its figures come back in a file.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading

# The folder in which a scenario finds what it has to know of the others, and leaves its figures.
RESULTS = "PALABRE_TRY_RESULTS"


def result_of(name, folder=None):
    """Where a scenario leaves its figures and the targets that it missed."""
    return os.path.join(folder or os.environ[RESULTS], name + ".json")


def ran_beside(name, folder=None):
    """A file that is there once another scenario has run at the same time as this one: then it had half a machine."""
    return os.path.join(folder or os.environ[RESULTS], name + ".beside")


class Lanes:
    def __init__(self, command, folder):
        """`command` runs the scenario whose name follows it; `folder` is theirs alone."""
        self.command, self.folder = command, folder
        self.running, self.lock = {}, threading.Lock()
        self.failed, self.stopped = [], False
        # The namespace ends with the scenario, and with it whatever it left open. Whoever is not root becomes it there.
        self.namespace = ["unshare", "--net", *["--map-root-user"] * (os.getuid() != 0), "--"]
        self.namespace += ["sh", "-c", 'ip link set lo up && exec "$@"', "lane"]

    def run(self, names, lanes):
        """All of them, at most `lanes` at the same time; returns when the last has ended."""
        waiting = queue.SimpleQueue()
        for name in names:
            waiting.put(name)
        ended = queue.SimpleQueue()
        left = min(lanes, len(names))
        for _ in range(left):
            threading.Thread(target=self._lane, args=(waiting, ended)).start()
        try:
            while left:
                # Not their join: a thread whose join a signal interrupts counts as ended.
                ended.get()
                left -= 1
        except BaseException:
            self._stop()
            for _ in range(left):
                ended.get()
            raise

    def _stop(self):
        """Each scenario ends its own box."""
        with self.lock:
            self.stopped = True
            for process in self.running.values():
                process.send_signal(signal.SIGTERM)

    def _lane(self, waiting, ended):
        try:
            while True:
                self._scenario(waiting.get_nowait())
        except queue.Empty:
            pass
        finally:
            ended.put(None)

    def _scenario(self, name):
        with self.lock:
            if self.stopped:
                return
            process = subprocess.Popen([*self.namespace, *self.command, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, env={**os.environ, RESULTS: self.folder})
            self.running[name] = process
            for other in self.running if len(self.running) > 1 else []:
                open(ran_beside(other, self.folder), "w").close()
        with process.stdout:
            for line in process.stdout:
                # One write a line: those of two lanes do not mix.
                sys.stdout.write(f"{name:8} | {line.decode('utf-8', 'replace')}")
                sys.stdout.flush()
        status = process.wait()
        with self.lock:
            del self.running[name]
            if status != 0:
                self.failed.append(name)

    def collected(self, names):
        """The figures of each scenario, by its name, and the targets that were missed."""
        figures, missed = {}, []
        for name in names:
            try:
                with open(result_of(name, self.folder)) as written:
                    result = json.load(written)
            except FileNotFoundError:
                # It ended before it could say anything: its lane counts it as failed.
                continue
            figures[name] = result["figures"]
            missed += [f"{name}: {miss}" for miss in result["missed"]]
        return figures, missed
