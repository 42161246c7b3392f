"""Chooses kernel modules by folder, with all that they need, and writes the tables that load them.

modules.py FROM LIST... > paths          the modules in the folders of the lists, and their dependencies, soft ones too; a folder
                                         or file after a `-` is left out of the folder above it, unless another needs it
modules.py --fold FROM INTO < paths      FROM's modules.dep for these paths with soft dependencies as hard ones, the names
                                         without .xz; the aliases of these modules beside it
FROM is a folder with what depmod wrote. Our initrd knows only modules.dep and modules.alias: hence the folding.
"""

import re
import sys


def name_of(path):
    return re.sub(r"\.ko(\..*)?$", "", path.rsplit("/", 1)[-1]).replace("-", "_")


def tables(folder):
    needs, paths, soft = {}, {}, {}
    for line in open(f"{folder}/modules.dep"):
        path, _, rest = line.strip().partition(":")
        needs[path] = rest.split()
        paths[name_of(path)] = path
    aliases = {}
    for line in open(f"{folder}/modules.alias"):
        words = line.split()
        if words[:1] == ["alias"]:
            aliases.setdefault(words[1], []).append(words[2])
    for line in open(f"{folder}/modules.softdep"):
        words = line.split()
        if words[:1] != ["softdep"] or words[1] not in paths:
            continue
        named = [w.replace("-", "_") for w in words[2:] if not w.endswith(":")]
        # A soft dependency may be an alias, such as crypto-crc32c: each module that answers to it counts.
        found = [m for n in named for m in ([n] if n in paths else aliases.get(n, []) + aliases.get(n.replace("_", "-"), []))]
        soft[paths[words[1]]] = [paths[m] for m in found if m in paths]
    return needs, soft


def closure(start, needs, soft):
    """What loading `start` takes, in loading order, without itself."""
    order, seen = [], {start}

    def visit(path):
        for below in soft.get(path, []) + needs.get(path, []):
            if below not in seen:
                seen.add(below)
                visit(below)
                order.append(below)

    visit(start)
    return order


def main(arguments):
    sys.setrecursionlimit(10_000)
    if arguments[0] == "--fold":
        source, into = arguments[1:3]
        needs, soft = tables(source)
        chosen = [line.strip() for line in sys.stdin if line.strip()]
        names = {name_of(path) for path in chosen}
        plain = lambda path: re.sub(r"\.ko\..*$", ".ko", path)
        with open(f"{into}/modules.dep", "w") as out:
            for path in sorted(chosen):
                # modules.dep lists the last to be loaded first.
                below = [plain(p) for p in reversed(closure(path, needs, soft))]
                out.write(" ".join([plain(path) + ":"] + below) + "\n")
        with open(f"{into}/modules.alias", "w") as out:
            for line in open(f"{source}/modules.alias"):
                if line.startswith("#") or line.split()[-1].replace("-", "_") in names:
                    out.write(line)
        return
    needs, soft = tables(arguments[0])
    wanted = set()
    for name in arguments[1:]:
        for line in open(name):
            line = line.split("#")[0].strip()
            if line:
                wanted.add(line)
    chosen = set()
    for path in needs:
        part = re.sub(r"\.ko(\..*)?$", "", path.removeprefix("kernel/"))
        while part and f"- {part}" not in wanted:
            if part in wanted:
                chosen.add(path)
                chosen.update(closure(path, needs, soft))
                break
            part = part.rpartition("/")[0]
    print("\n".join(sorted(chosen)))


if __name__ == "__main__":
    main(sys.argv[1:])
