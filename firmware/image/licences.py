"""Writes the licence texts of what is compiled into the programs or built into the pages, each text once, with the names it
stands for. What has no text of its own is named with its licence alone.

licences.py crates REGISTRY... < list    each REGISTRY is a folder of cargo's registry/src; the list is that of parts.py
licences.py pages WEB                    WEB has package-lock.json and node_modules
"""

import json
import os
import re
import sys

import parts

NOTICE = re.compile(r"(?i)(licen[cs]es?|copying|notice|unlicense)(?![a-z]).*")
# Folders of a package that nothing of the box is built from.
ASIDE = {"tests", "test", "benches", "examples", "node_modules"}


def texts(folder):
    """Every notice below a folder: C sources that a crate brings along have their own."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - ASIDE)
        for file in sorted(files):
            if NOTICE.fullmatch(file) and not file.endswith((".rs", ".js", ".ts", ".c", ".h", ".py")):
                with open(os.path.join(place, file), encoding="utf-8", errors="replace") as text:
                    yield text.read().strip()


def notices(found):
    """`found`: (name and version, licence, folder)."""
    stands_for, without = {}, []
    for name, licence, folder in found:
        own = [text for text in texts(folder) if text]
        for text in own:
            stands_for.setdefault(text, set()).add(f"{name} ({licence or 'no licence named'})")
        if not own:
            without.append(f"{name}: {licence}")
    rule = "=" * 100
    for text, names in sorted(stands_for.items(), key=lambda item: (sorted(item[1]), item[0])):
        yield rule + "\n" + "\n".join(sorted(names)) + "\n" + "-" * 100 + "\n" + text + "\n"
    yield rule + "\nWithout a text of their own:\n" + "\n".join(without)


def of_crates(lines, registries):
    for name, version, licence, own in parts.crates(lines):
        if own:
            continue
        folders = [os.path.join(registry, f"{name}-{version}") for registry in registries]
        folder = next((folder for folder in folders if os.path.isdir(folder)), None)
        if folder is None:
            sys.exit(f"the source of the crate {name} {version} is not here, so its licence cannot be read: cargo fetch --locked")
        yield f"{name} {version}", licence, folder


def of_pages(web):
    with open(os.path.join(web, "package-lock.json")) as file:
        lock = json.load(file)
    for name, version, licence, _, path in parts.pages(lock):
        folder = os.path.join(web, path)
        try:
            with open(os.path.join(folder, "package.json")) as file:
                here = json.load(file)["version"]
        except FileNotFoundError:
            here = "no version"
        if here != version:
            sys.exit(f"the npm package {name} is here in {here}, not in {version}, so its licence cannot be read: npm ci in {web}")
        yield f"{name} {version}", licence, folder


def main():
    match sys.argv[1:]:
        case ["crates", *registries] if registries:
            print("Crates (Rust libraries) in the programs of Palabre, and their licences.\n")
            found = of_crates(sys.stdin, registries)
        case ["pages", web]:
            print("npm packages (JavaScript libraries) in the pages of Palabre, and their licences.\n")
            found = of_pages(web)
        case _:
            sys.exit(__doc__)
    for notice in notices(found):
        print(notice)


if __name__ == "__main__":
    main()
