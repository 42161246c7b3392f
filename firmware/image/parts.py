"""Writes the list of parts of an image as CycloneDX 1.6: Debian's packages as installed, the crates that are compiled into the
programs, the standard library they are compiled with, and the npm packages that the pages are made of.

parts.py --packages FILE --crates FILE --lock Cargo.lock --pages package-lock.json --std V --name N --version V --commit C --epoch SECONDS
`packages` has a package a line: name, version, architecture, source, source version, separated by tabs; `crates` a crate a
line, as `cargo tree --prefix none --no-dedupe -f '{p}<tab>{l}'` prints.
"""

import argparse
import base64
import datetime
import json
import re
import sys
import tomllib
import uuid
from urllib.parse import quote

SPDX = re.compile(r"\(*[A-Za-z0-9.+-]+\)*(?: (?:AND|OR|WITH) \(*[A-Za-z0-9.+-]+\)*)*")


def crates(lines):
    """(name, version, licence, whether it is a part of this project) of each crate, once, in order."""
    found = set()
    for line in lines:
        package, _, licence = line.strip().partition("\t")
        # "name v1.0.0", and then nothing, "(proc-macro)" or "(/folder)".
        words = package.split()
        if len(words) >= 2:
            found.add((words[0], words[1].removeprefix("v"), licence.removesuffix(" (*)"), "(/" in package))
    return sorted(found)


# Licences that an npm package names in its readme and not in its package.json, of the versions that were read.
READ = {("combine-errors", "3.0.3"): "MIT"}


def pages(lock):
    """(name, version, licence, integrity, path) of each npm package that the pages may hold, in order. What only builds or
    tests them is left out, and so is what they could do without and only building brings."""
    if lock.get("lockfileVersion") != 3:
        sys.exit("package-lock.json is not of version 3, which is the one that is understood here")
    found = []
    for path, entry in lock["packages"].items():
        if path and not entry.get("dev") and not entry.get("devOptional") and not entry.get("link"):
            name = entry.get("name") or path.rpartition("node_modules/")[2]
            licence = entry.get("license") or READ.get((name, entry["version"]), "")
            found.append((name, entry["version"], licence, entry.get("integrity", ""), path))
    return sorted(found)


def licences(text):
    """CycloneDX's form of a licence: an SPDX expression where it is one, or else the words that are there."""
    # The old way to write OR.
    text = re.sub(r"\s*/\s*", " OR ", text.strip())
    if not text:
        return {}
    return {"licenses": [{"expression": text} if SPDX.fullmatch(text) else {"license": {"name": text}}]}


def of_package(line):
    package, version, arch, source, source_version = line.rstrip("\n").split("\t")
    purl = f"pkg:deb/debian/{quote(package)}@{quote(version)}?arch={arch}&distro=debian-13"
    properties = [{"name": "debian:source", "value": f"{source} {source_version}"}]
    return {"type": "library", "bom-ref": purl, "name": package, "version": version, "purl": purl, "properties": properties}


def of_crate(crate, sums):
    name, version, licence, own = crate
    purl = f"pkg:cargo/{quote(name)}@{quote(version)}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": version, **licences(licence)}
    if own:
        # No registry has it.
        return component
    if (name, version) not in sums:
        sys.exit(f"the crate {name} {version} is compiled and not in Cargo.lock: the list of crates is of another state")
    return component | {"purl": purl, "hashes": [{"alg": "SHA-256", "content": sums[name, version]}]}


def of_page(package):
    name, version, licence, integrity, _ = package
    purl = f"pkg:npm/{quote(name)}@{quote(version)}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **licences(licence)}
    sums = [base64.b64decode(one.removeprefix("sha512-")).hex() for one in integrity.split() if one.startswith("sha512-")]
    return component | ({"hashes": [{"alg": "SHA-512", "content": sums[0]}]} if sums else {})


def document(components, name, version, commit, epoch):
    unique = {component["bom-ref"]: component for component in components}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}@{version}#{commit}")),
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "firmware",
                "bom-ref": name,
                "name": name,
                "version": version,
                "properties": [{"name": "git:commit", "value": commit}],
            },
        },
        "components": [unique[ref] for ref in sorted(unique)],
    }


def main():
    arguments = argparse.ArgumentParser()
    for name in ["packages", "crates", "lock", "pages", "std", "name", "version", "commit", "epoch"]:
        arguments.add_argument(f"--{name}", required=True)
    asked = arguments.parse_args()
    with open(asked.lock, "rb") as file:
        sums = {(c["name"], c["version"]): c["checksum"] for c in tomllib.load(file)["package"] if "checksum" in c}
    with open(asked.packages) as file:
        components = [of_package(line) for line in file]
    with open(asked.crates) as file:
        components += [of_crate(crate, sums) for crate in crates(file)]
    with open(asked.pages) as file:
        components += [of_page(package) for package in pages(json.load(file))]
    std = {"type": "library", "bom-ref": f"rust-std@{asked.std}", "name": "rust-std", "version": asked.std}
    components.append(std | licences("MIT OR Apache-2.0"))
    json.dump(document(components, asked.name, asked.version, asked.commit, asked.epoch), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
