"""Whether scenarios run side by side without seeing each other, and what they say comes together. No emulator is started."""

import contextlib
import io
import os
import signal
import sys
import tempfile
import threading
import time
import unittest

from lanes import Lanes

# What the ports of a box need, then what each scenario of these tests does. Files of the folder are what they wait for.
SCENARIO = """
import json, os, signal, socket, sys, time
folder, name = os.environ["PALABRE_TRY_RESULTS"], sys.argv[1]
with socket.create_server(("127.0.0.1", 443)):
    open(os.path.join(folder, name), "w").close()
    print("port 443 is mine", flush=True)
    deadline = time.monotonic() + 30
    def until(there):
        while not os.path.exists(os.path.join(folder, there)):
            if time.monotonic() > deadline:
                sys.exit(f"no {there}")
            time.sleep(0.01)
    if name == "stays":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("its box is off"))
        until("never")
    if name in ("left", "right"):
        until({"left": "right", "right": "left"}[name])
        until(name + ".beside")
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    beside = os.path.exists(os.path.join(folder, name + ".beside"))
    with open(os.path.join(folder, name + ".json"), "w") as written:
        json.dump({"figures": {"start": {"beside another": beside}}, "missed": ["start: 99 s"] * (name == "slow")}, written)
    sys.exit(name == "fails")
"""


class Side(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.lanes = Lanes([sys.executable, "-c", SCENARIO], folder.name)

    def run_all(self, names, lanes):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.lanes.run(names, lanes)
        figures, missed = self.lanes.collected(names)
        return said.getvalue().splitlines(), {name: of["start"]["beside another"] for name, of in figures.items()}, missed

    def test_two_at_the_same_time_each_have_every_port(self):
        said, beside, _ = self.run_all(["left", "right"], 2)
        self.assertEqual(sorted(said), ["left     | port 443 is mine", "right    | port 443 is mine"])
        self.assertEqual((beside, self.lanes.failed), ({"left": True, "right": True}, []))

    def test_one_lane_runs_them_one_after_the_other(self):
        said, beside, _ = self.run_all(["first", "second"], 1)
        self.assertEqual([line.split()[0] for line in said], ["first", "second"])
        self.assertEqual((beside, self.lanes.failed), ({"first": False, "second": False}, []))

    def test_what_fails_or_dies_is_told_and_holds_up_nobody(self):
        said, beside, missed = self.run_all(["dies", "fails", "slow"], 1)
        self.assertEqual(len(said), 3)
        self.assertEqual(self.lanes.failed, ["dies", "fails"])
        self.assertEqual((list(beside), missed), (["fails", "slow"], ["slow: start: 99 s"]))

    def test_who_stops_it_stops_the_scenarios(self):
        def stop():
            deadline = time.monotonic() + 30
            while not os.path.exists(os.path.join(self.folder, "stays")) and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        threading.Thread(target=stop).start()
        said = io.StringIO()
        with self.assertRaises(SystemExit), contextlib.redirect_stdout(said):
            self.lanes.run(["stays", "never-begun"], 1)
        self.assertEqual(self.lanes.failed, ["stays"])
        self.assertNotIn("never-begun", said.getvalue())


if __name__ == "__main__":
    unittest.main()
