"""The list of parts and the licence notices, on made-up parts and on those of this project."""

import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from contextlib import redirect_stdout
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import licences
import parts

IMAGE = pathlib.Path(__file__).parent
SOURCE = IMAGE.parent.parent
WEB = SOURCE / "admin/web"
COMPONENT = {"type", "bom-ref", "name", "version", "purl", "hashes", "licenses", "properties"}
LENGTH = {"SHA-256": 64, "SHA-512": 128}


def invalid(document):
    """What of CycloneDX 1.6 (bom-1.6.schema.json) this document breaks, as far as it uses it."""
    if document["bomFormat"] != "CycloneDX" or document["specVersion"] != "1.6" or document["version"] < 1:
        yield "head"
    if not re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", document["serialNumber"]):
        yield "serialNumber"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["metadata"]["timestamp"]):
        yield "timestamp"
    components = document["components"] + [document["metadata"]["component"]]
    refs = [component["bom-ref"] for component in components]
    if len(set(refs)) != len(refs):
        yield "a bom-ref twice"
    for component in components:
        where = component["bom-ref"]
        if set(component) - COMPONENT or component["type"] not in ("library", "firmware") or not component["name"]:
            yield f"{where}: fields"
        if "purl" in component and not re.fullmatch(r"pkg:(deb/debian|cargo|npm(/%40[a-z0-9._-]+)?)/[A-Za-z0-9._+%-]+@[^@/ ]+", component["purl"]):
            yield f"{where}: purl"
        for sum in component.get("hashes", []):
            if set(sum) != {"alg", "content"} or not re.fullmatch(r"[0-9a-f]{%d}" % LENGTH[sum["alg"]], sum["content"]):
                yield f"{where}: hash"
        said = component.get("licenses", [])
        if any("expression" in one for one in said) and len(said) != 1:
            yield f"{where}: an expression stands alone"
        for one in said:
            if set(one) != {"expression"} and not (set(one) == {"license"} and set(one["license"]) == {"name"}):
                yield f"{where}: licences"


def listed(crates, lock, pages, packages="base-files\t13.8+deb13u8\tamd64\tbase-files\t13.8+deb13u8\n"):
    """What parts.py prints for these inputs."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["parts.py"]
        for name, text in {"packages": packages, "crates": crates, "lock": lock, "pages": pages}.items():
            path = pathlib.Path(folder) / name
            path.write_text(text)
            words += [f"--{name}", str(path)]
        words += ["--std", "1.96.1", "--name", "palabre-core-amd64", "--version", "0.1.0+1", "--commit", "abc", "--epoch", "1767225600"]
        out = io.StringIO()
        with mock.patch.object(sys, "argv", words), redirect_stdout(out):
            parts.main()
    return json.loads(out.getvalue())


LOCK = '[[package]]\nname = "one"\nversion = "1.2.3"\nchecksum = "%s"\n[[package]]\nname = "unused"\nversion = "1.0.0"\nchecksum = "%s"\n' % ("a" * 64, "b" * 64)
CRATES = "own v0.1.0 (/src/own)\tApache-2.0\n\none v1.2.3 (proc-macro)\tMIT/Apache-2.0 (*)\none v1.2.3 (proc-macro)\tMIT/Apache-2.0\n"
PAGES = json.dumps({"lockfileVersion": 3, "packages": {
    "": {"name": "pages"},
    "node_modules/@a/b": {"version": "2.0.0", "license": "(MIT AND 0BSD)", "integrity": "sha512-" + "A" * 86 + "=="},
    "node_modules/@a/b/node_modules/c": {"version": "3.0.0", "license": "SEE LICENSE IN x"},
    "node_modules/builds": {"version": "1.0.0", "dev": True},
    "node_modules/compiles": {"version": "1.0.0", "devOptional": True},
}})


class Parts(unittest.TestCase):
    def test_what_is_built_is_listed_and_nothing_else(self):
        document = listed(CRATES, LOCK, PAGES)
        self.assertEqual(list(invalid(document)), [])
        by_name = {component["name"]: component for component in document["components"]}
        self.assertEqual(sorted(by_name), ["@a/b", "base-files", "c", "one", "own", "rust-std"])
        self.assertEqual(by_name["one"]["purl"], "pkg:cargo/one@1.2.3")
        self.assertEqual(by_name["one"]["licenses"], [{"expression": "MIT OR Apache-2.0"}])
        self.assertEqual(by_name["one"]["hashes"], [{"alg": "SHA-256", "content": "a" * 64}])
        self.assertNotIn("purl", by_name["own"])
        self.assertEqual(by_name["@a/b"]["purl"], "pkg:npm/%40a/b@2.0.0")
        self.assertEqual(by_name["@a/b"]["licenses"], [{"expression": "(MIT AND 0BSD)"}])
        self.assertEqual(by_name["@a/b"]["hashes"], [{"alg": "SHA-512", "content": "0" * 128}])
        self.assertEqual(by_name["c"]["licenses"], [{"license": {"name": "SEE LICENSE IN x"}}])
        self.assertEqual(by_name["base-files"]["purl"], "pkg:deb/debian/base-files@13.8%2Bdeb13u8?arch=amd64&distro=debian-13")

    def test_the_same_parts_give_the_same_list(self):
        self.assertEqual(listed(CRATES, LOCK, PAGES), listed("\n".join(reversed(CRATES.split("\n"))), LOCK, PAGES))

    def test_lists_of_different_states_are_refused(self):
        with self.assertRaisesRegex(SystemExit, "two 1.0.0"):
            listed("two v1.0.0\tMIT\n", LOCK, PAGES)
        with self.assertRaisesRegex(SystemExit, "version 3"):
            listed(CRATES, LOCK, '{"lockfileVersion": 2, "packages": {}}')

    def test_the_check_of_the_form_is_one(self):
        for spoil in [
            lambda d: d["components"][0].update({"purl": "pkg:npm/@a/b@2.0.0"}),
            lambda d: d["components"][0].update({"licence": "MIT"}),
            lambda d: d["components"].append(d["components"][0]),
            lambda d: d.update({"serialNumber": "urn:uuid:1"}),
            lambda d: d["components"][0].update({"licenses": [{"expression": "MIT"}, {"expression": "ISC"}]}),
        ]:
            document = listed(CRATES, LOCK, PAGES)
            spoil(document)
            self.assertNotEqual(list(invalid(document)), [])


class Project(unittest.TestCase):
    """The parts of Palabre itself."""

    @classmethod
    def setUpClass(cls):
        tree = subprocess.run(["bash", "-euc", '. "$1/lib.sh"; crates x86_64-unknown-linux-gnu', "crates", IMAGE], check=True, text=True, stdout=subprocess.PIPE)
        cls.crates = tree.stdout

    def test_the_list(self):
        document = listed(self.crates, (SOURCE / "Cargo.lock").read_text(), (WEB / "package-lock.json").read_text())
        self.assertEqual(list(invalid(document)), [])
        of = lambda kind: {c["name"] for c in document["components"] if c.get("purl", "").startswith(f"pkg:{kind}/")}
        self.assertLess({"aws-lc-rs", "tokio", "rustls"}, of("cargo"))
        self.assertLess({"react", "react-dom", "livekit-client", "@livekit/protocol"}, of("npm"))
        locked = {crate["name"] for crate in tomllib.loads((SOURCE / "Cargo.lock").read_text())["package"]}
        self.assertIn("ring", locked, "it stands for what is locked and never compiled")
        self.assertFalse({"ring", "criterion", "tempfile"} & of("cargo"))
        self.assertFalse({"vite", "vitest", "typescript", "rollup"} & of("npm"))
        without = [c["name"] for c in document["components"] if not c.get("licenses") and not c.get("purl", "").startswith("pkg:deb/")]
        self.assertEqual(without, [], "parts without a licence")

    def test_notices_of_the_pages(self):
        text = "\n".join(licences.notices(licences.of_pages(WEB)))
        self.assertRegex(text, r"react 19[0-9.]* \(MIT\)")
        self.assertIn("Copyright (c) Meta Platforms", text)
        self.assertRegex(text, r"livekit-client 2[0-9.]* \(Apache-2.0\)")
        self.assertNotRegex(text, r"(?m)^vite ")

    def test_notices_of_packages_that_are_not_there_are_not_left_out(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "package-lock.json").write_text(PAGES)
            with self.assertRaisesRegex(SystemExit, "@a/b is here in no version, not in 2.0.0"):
                list(licences.of_pages(folder))


class Licences(unittest.TestCase):
    def test_a_text_is_written_once_with_all_it_stands_for(self):
        with tempfile.TemporaryDirectory() as folder:
            registry = pathlib.Path(folder)
            for name, files in {
                "one-1.0.0": {"LICENSE-MIT": "the text", "src/license.rs": "code", "c/COPYING": "of the C part", "tests/LICENSE": "not shipped"},
                "two-1.0.0": {"licence.txt": "the text\n"},
                "three-1.0.0": {"README": ""},
            }.items():
                for file, text in files.items():
                    path = registry / name / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
            lines = ["one v1.0.0\tMIT", "two v1.0.0\tMIT", "three v1.0.0\tISC", "own v1.0.0 (/src)\tMIT"]
            text = "\n".join(licences.notices(licences.of_crates(lines, ["/nonexistent", folder])))
            self.assertEqual(text.count("the text"), 1)
            self.assertIn("one 1.0.0 (MIT)\ntwo 1.0.0 (MIT)\n" + "-" * 100 + "\nthe text", text)
            self.assertIn("one 1.0.0 (MIT)\n" + "-" * 100 + "\nof the C part", text)
            self.assertTrue(text.endswith("Without a text of their own:\nthree 1.0.0: ISC"))
            self.assertNotRegex(text, "own 1|not shipped|code")
            with self.assertRaisesRegex(SystemExit, "four 1.0.0"):
                list(licences.of_crates(["four v1.0.0\tMIT"], [folder]))


if __name__ == "__main__":
    unittest.main()
