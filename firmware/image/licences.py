"""Writes the licence texts of the crates that are in the programs, each text once, with the crates it stands for.

licences.py REGISTRY < list    REGISTRY is cargo's registry/src/* folder; the list has "name vVERSION licence" a line, as
`cargo tree --prefix none -f '{p} {l}'` prints. A crate without a text of its own is named with its licence alone.
"""

import glob
import os
import re
import sys

registry = sys.argv[1]
texts, without = {}, []
for line in sorted(set(sys.stdin)):
    # "(/" is a folder: a part of this workspace.
    found = None if "(/" in line else re.match(r"(\S+) v(\S+)(?: \(proc-macro\))? (.*)", line.strip())
    if not found:
        continue
    name, version, licence = found.groups()
    folder = os.path.join(registry, f"{name}-{version}")
    files = sorted(f for f in glob.glob(folder + "/*") if re.match(r"(?i)(licen[cs]e|copying|notice|unlicense)", os.path.basename(f)) and os.path.isfile(f))
    for file in files:
        text = open(file, encoding="utf-8", errors="replace").read().strip()
        texts.setdefault(text, []).append(f"{name} {version} ({licence})")
    if not files:
        without.append(f"{name} {version}: {licence}")
print("Crates (Rust libraries) in the programs of Palabre, and their licences.\n")
for text, crates in sorted(texts.items(), key=lambda item: item[1]):
    print("=" * 100 + "\n" + "\n".join(sorted(set(crates))) + "\n" + "-" * 100 + "\n" + text + "\n")
print("=" * 100 + "\nWithout a text of their own:\n" + "\n".join(without))
