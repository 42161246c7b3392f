"""Writes the list of parts of an image as CycloneDX 1.6: Debian packages as installed, crates as locked.

parts.py --packages FILE --lock Cargo.lock --name N --version V --commit C --epoch SECONDS
FILE has a package a line: name, version, architecture, source, source version, separated by tabs.
"""

import argparse
import datetime
import json
import sys
import tomllib
import uuid
from urllib.parse import quote

arguments = argparse.ArgumentParser()
for name in ["packages", "lock", "name", "version", "commit", "epoch"]:
    arguments.add_argument(f"--{name}", required=True)
asked = arguments.parse_args()

components = []
for line in open(asked.packages):
    package, version, arch, source, source_version = line.rstrip("\n").split("\t")
    purl = f"pkg:deb/debian/{quote(package)}@{quote(version)}?arch={arch}&distro=debian-13"
    properties = [{"name": "debian:source", "value": f"{source} {source_version}"}]
    components.append({"type": "library", "bom-ref": purl, "name": package, "version": version, "purl": purl, "properties": properties})
for crate in tomllib.load(open(asked.lock, "rb"))["package"]:
    purl = f"pkg:cargo/{crate['name']}@{quote(crate['version'])}"
    component = {"type": "library", "bom-ref": purl, "name": crate["name"], "version": crate["version"]}
    if "checksum" in crate:
        component["purl"] = purl
        component["hashes"] = [{"alg": "SHA-256", "content": crate["checksum"]}]
    components.append(component)
unique = {component["bom-ref"]: component for component in components}
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "serialNumber": "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, f"{asked.name}@{asked.version}#{asked.commit}")),
    "version": 1,
    "metadata": {
        "timestamp": datetime.datetime.fromtimestamp(int(asked.epoch), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "component": {
            "type": "firmware",
            "bom-ref": asked.name,
            "name": asked.name,
            "version": asked.version,
            "properties": [{"name": "git:commit", "value": asked.commit}],
        },
    },
    "components": [unique[ref] for ref in sorted(unique)],
}
json.dump(document, sys.stdout, indent=1, sort_keys=True)
sys.stdout.write("\n")
