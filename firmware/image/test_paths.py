"""What `fw` refuses in a sentence before anything is done: paths that would break in two where they are mounted, and words that only
the last of its steps would stumble over, twenty minutes later."""

import os
import pathlib
import subprocess
import tempfile
import unittest

FIRMWARE = pathlib.Path(__file__).parent.parent
WORDS = "blanks, colons and the letters * ? [ \\ are not taken there"


class Paths(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def said(self, *words, fw=FIRMWARE / "fw", **more):
        done = subprocess.run([fw, *words], capture_output=True, text=True, env={**os.environ, "PALABRE_FIRMWARE_WORK": str(self.folder), **more})
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_those_that_break(self):
        for name in ["with a blank", "with:colon", "with*star", "with[bracket", "with\\backslash", "with\nline"]:
            place = self.folder / name
            place.mkdir()
            # Lists what is there, and makes nothing.
            self.assertIn(WORDS, self.said("sbom", PALABRE_FIRMWARE_WORK=str(place)), name)
            self.assertIn(WORDS, self.said("sbom", "--keys", place), name)
            (place / "some.key").touch()
            self.assertIn(WORDS, self.said("keys", "public", place / "some.key"), name)
            (place / "firmware").symlink_to(FIRMWARE)
            self.assertIn(WORDS, self.said("sbom", fw=place / "firmware/fw"), name)

    def test_those_that_do_not(self):
        place = self.folder / "plain-1.0_é+(2)~"
        place.mkdir()
        (place / "firmware").symlink_to(FIRMWARE)
        said = self.said("sbom", "--keys", place, fw=place / "firmware/fw", PALABRE_FIRMWARE_WORK=str(place))
        self.assertIn("no image yet", said)

    def test_what_cannot_become_an_image(self):
        empty, halved, token = (self.folder / name for name in ("keys", "halved", "token"))
        for folder in (empty, halved, token):
            folder.mkdir()
        for folder in (halved, token):
            for name in ("bundle-current.key", "secureboot.key", "pcr.key" if folder == halved else "pcr.uri"):
                (folder / name).write_text("a key")
        for name in ("bundle-current.pub", "bundle-next.pub", "secureboot.crt", "pcr.pub"):
            (token / name).write_text("its public half")
        (halved / "bundle-current.pub").touch()
        for words, why in [
            (["image", "--version", "0"], "--version takes a whole number from 1, not '0'"),
            (["bundle", "--version", "2", "--floor", "3"], "--floor 3 is above the version, 2"),
            (["bundle"], "bundle takes --version N"),
            (["image", "--release"], "--release takes --keys too"),
            (["image", "--release", "--keys", str(empty)], '"Key ceremony" in firmware/INSTALL.md'),
            (["image", "--keys", str(halved)], "the public half bundle-current.pub is missing"),
            (["image", "--keys", str(token)], "its certificate is needed in"),
            (["image", "--keys", str(empty)], "no key bundle-current in"),
            (["image", "--keys", str(self.folder / "none")], "there is no "),
            (["keys", "public", str(self.folder / "none")], "there is no "),
        ]:
            said = self.said(*words)
            self.assertIn(why, said)
            # One line: nothing was begun.
            self.assertEqual(len(said.splitlines()), 1, said)
        self.assertEqual(set(self.folder.iterdir()), {empty, halved, token})


if __name__ == "__main__":
    unittest.main()
