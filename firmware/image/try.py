"""Puts images to the test in QEMU: what `fw test` runs once they are built. try.py quick|full|SCENARIO...

Runs in a network namespace of its own (test.sh makes it), so that the box's ports are free.
"""

import json
import os
import sys
import traceback

import guard
import kit
import outside
import trouble
import try_faults
import try_page
import try_room
from box import WORK, Box, Failed, fresh


def life(arch):
    """First start, claim, an update that is refused, one that stays, one that is too old."""
    ready_target = 30 if arch == "amd64" else 45
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", arch))) as box:
        kit.step(f"{arch}: first start of version 1")
        box.start()
        kit.note("power on to /readyz, first start", box.ready(ready_target * kit.SLACK), "s", ready_target)
        kit.page_is_there(box)
        box.said(r"DEVELOPMENT KEYS", 30 * kit.SLACK)
        fingerprint = box.said(r"Certificate\s+(\S+)\s", 30 * kit.SLACK).group(1)
        kit.page_is_encrypted(box, fingerprint)
        kit.step("claimed with the code of the serial line; a wrong code is refused; a room is made")
        room = kit.claim_and_make_a_room(box)
        kit.note("memory in use at idle", box.memory_used(), "MiB", 150)
        for what, version, name, target in [("disk image, compressed", 1, f"palabre-{arch}-core-1.img.zst", 170),
                                            ("update bundle", 2, f"palabre-{arch}-core-2.plbu", 180)]:
            kit.note(what, os.path.getsize(kit.out(arch, version, name)) / 2**20, "MiB", target)
        kit.step("two guests and a telephone call from outside, through the forwarded ports, and hear each other")
        print(f"      {json.dumps(outside.call(box, room, 15 * kit.SLACK))}", flush=True)

        kit.step("a bundle with one bit changed is refused")
        since = box.mark()
        box.plug(kit.stick("tampered.img", palabre_plbu=kit.tampered(kit.out(arch, 2, f"palabre-{arch}-core-2.plbu"))))
        print("      " + box.said(r"Update refused: (error\[part-hash\].*)\n", 120 * kit.SLACK, since).group(1).strip())
        box.pull()

        kit.step("version 2 is installed, starts on trial, is blessed")
        since = kit.update(box, 2, 40)
        box.said(r"Palabre \S+\+2\n", 120 * kit.SLACK, since)
        kit.note("restart to /readyz of version 2", box.ready(120 * kit.SLACK), "s")
        box.said(r"version 2 is good", 120 * kit.SLACK, since)
        kit.has_room(box, room)
        since_certificate = box.said(r"Certificate\s+(\S+)\s", 30 * kit.SLACK, since).group(1)
        if since_certificate != fingerprint:
            raise Failed("the certificate changed with the update")
        kit.page_is_encrypted(box, fingerprint)

        kit.step("version 1 is refused: older than what runs")
        since = box.mark()
        box.plug(kit.stick("old.img", palabre_plbu=kit.out(arch, 1, f"palabre-{arch}-core-1.plbu")))
        print("      " + box.said(r"Update refused: (error\[version-older\].*)\n", 120 * kit.SLACK, since).group(1).strip())
        box.pull()


SCENARIOS = {
    "life": lambda: life("amd64"),
    "asked": lambda: try_page.asked(kit),
    "settings": lambda: try_page.settings(kit),
    "broken": lambda: try_faults.broken(kit),
    "damaged": lambda: try_faults.damaged(kit),
    "worn": lambda: try_faults.worn(kit),
    "power": lambda: try_faults.power(kit),
    "guarded": lambda: guard.guarded(kit),
    "late": lambda: trouble.late(kit),
    "alone": lambda: trouble.alone(kit),
    "filled": lambda: trouble.full(kit),
    "browser": lambda: try_room.browser(kit),
    "room": lambda: try_room.room(kit),
    "arm64": lambda: life("arm64"),
}


def main(asked):
    sets = {"quick": ["life"], "full": list(SCENARIOS)}
    names = [name for word in asked for name in sets.get(word, [word])]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown or not names:
        sys.exit(f"try.py takes quick, full or some of {', '.join(SCENARIOS)}")
    failed = []
    for name in names:
        kit.step(f"== {name}")
        try:
            SCENARIOS[name]()
        except Failed as failure:
            print(f"FAILED: {name}: {failure}", flush=True)
            failed.append(name)
        except Exception:
            # A box that answers nonsense fails its scenario, not those after it.
            print(f"FAILED: {name}: {traceback.format_exc()}", flush=True)
            failed.append(name)
        with open(os.path.join(WORK, "test", "figures.json"), "w") as written:
            json.dump(kit.figures, written, indent=1)
    for miss in kit.missed:
        print(f"MISSED: {miss}", flush=True)
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed, {len(kit.missed)} targets missed", flush=True)
    sys.exit(1 if failed or kit.missed else 0)


main(sys.argv[1:])
