"""What the script `console` tells of a version that failed, on a folder that stands for the box."""

import os
import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parent / "overlay/usr/lib/palabre/console"
STATUS = """runs version {runs} (0.1.0+{runs})
slot A: version 1, good: it is the newest that has not failed
slot B: version {other}, bad: every try to start it failed
secure boot: off
data: plain
"""


class Console(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.write("run/palabre/console/announce", "Palabre is ready.\n")
        self.write("sys/class/tty/console/active", "tty0 ttyS0\n")
        self.write("usr/lib/palabre/image.json", '{"display":"0.1.0+1"}\n')
        self.write("usr/lib/palabre/addresses", "#!/bin/sh\necho 192.0.2.10\n")
        # Terminals: what is not a character device is passed over.
        (self.root / "dev").mkdir()
        self.consoles = [self.console(name) for name in ("ttyS0", "tty1")]

    def console(self, name):
        terminal, line = os.openpty()
        self.addCleanup(os.close, terminal)
        self.addCleanup(os.close, line)
        (self.root / "dev" / name).symlink_to(os.ttyname(line))
        return terminal, line

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def tells(self, status, *words):
        """What serial line and screen have after a run of the script, while `palabre-update status` says this."""
        self.write("status", status)
        self.write("bin/palabre-update", '#!/bin/sh\ncat "$PALABRE_ROOT/status"\n')
        subprocess.run(["sh", SCRIPT, *words], check=True,
                       env={"PALABRE_ROOT": str(self.root), "PATH": f"{self.root}/bin:/usr/bin:/bin"})
        serial, screen = (self.read(*console) for console in self.consoles)
        self.assertEqual(screen, serial)
        return serial

    @staticmethod
    def read(terminal, line):
        # What comes through a terminal comes in order, and not at once.
        os.write(line, b"\0")
        told = b""
        while not told.endswith(b"\0"):
            told += os.read(terminal, 65536)
        return told[:-1].decode().replace("\r", "")

    def test_the_version_that_failed_and_why(self):
        told = self.tells(STATUS.format(runs=1, other=3) + "version 3 failed: program: it ended\n")
        self.assertIn("\n  Failed / Échec           version 3: program: it ended\n", told)
        self.assertIn("\n  Data / Données           plain / en clair\n", told)

    def test_a_long_reason_leaves_room_for_the_rest(self):
        status = STATUS.format(runs=1, other=3)
        short, long = (self.tells(status + f"version 3 failed: {'word ' * words}\n").splitlines() for words in (1, 100))
        self.assertEqual(len(long), len(short) + 3)
        at = next(number for number, line in enumerate(long) if line.startswith("  Failed"))
        self.assertTrue(all(len(line) < 80 for line in long[at:at + 4]), long)
        self.assertTrue(long[at + 1].startswith(" " * 27 + "word "), long)
        self.assertTrue(long[at + 3].endswith("word ..."), long)
        # As long as it may be without being cut.
        self.assertNotIn("...", self.tells(status + f"version 3 failed: {'word ' * 34}\n"))

    def test_nothing_of_one_that_is_tried_again_or_gone(self):
        failed = "version 3 failed: program: it ended\n"
        for runs, other in [(3, 3), (1, 4), (1, 13), (1, 33), (13, 1)]:
            told = self.tells(STATUS.format(runs=runs, other=other) + failed)
            self.assertIn("Secure Boot", told)
            self.assertNotIn("Failed", told, (runs, other))
        self.assertNotIn("Failed", self.tells(STATUS.format(runs=1, other=3)))

    def test_one_that_is_known_later_is_told_once(self):
        before = STATUS.format(runs=1, other=3)
        self.assertIn("192.0.2.10", self.tells(before))
        self.assertEqual(self.tells(before, "--failure"), "")
        after = before + "version 3 failed: it was never ready\n"
        self.assertEqual(self.tells(after, "--failure"), "  Failed / Échec           version 3: it was never ready\n\n")
        self.assertEqual(self.tells(after, "--failure"), "")

    def test_what_the_whole_has_told_is_not_told_again(self):
        status = STATUS.format(runs=1, other=3) + "version 3 failed: it was never ready\n"
        self.assertIn("Failed", self.tells(status))
        self.assertEqual(self.tells(status, "--failure"), "")


if __name__ == "__main__":
    unittest.main()
