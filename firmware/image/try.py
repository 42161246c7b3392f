"""Puts images to the test in QEMU: what `fw test` runs once they are built. try.py [--lanes N] quick|full|SCENARIO...

Figures go to test/figures.json of the work folder, by scenario.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback

import guard
import kit
import lanes
import outside
import trouble
import try_data
import try_faults
import try_page
import try_ports
import try_reset
import try_room
import try_starts
import try_stick
from box import WORK, Box, Failed, fresh


# How the console warns of keys that anybody can have.
DEVELOPMENT = r"DEVELOPMENT KEYS"

# Seconds of good health that a trial takes on a box (`Policy::default` of the appliance's health.rs).
GOOD_FOR = 300


def life(arch):
    """First start, claim, an update that is refused, one that stays, one that is too old."""
    ready_target = 30 if arch == "amd64" else 45
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", arch))) as box:
        kit.step(f"{arch}: first start of version 1")
        box.start()
        kit.note("power on to /readyz, first start", box.ready(ready_target * kit.SLACK), "s", ready_target)
        kit.page_is_there(box)
        box.said(DEVELOPMENT, 30 * kit.SLACK)
        fingerprint = box.said(r"Certificate / Certificat +([0-9A-F]{2}(?::[0-9A-F]{2}){31})\s", 30 * kit.SLACK).group(1)
        kit.page_is_encrypted(box, fingerprint)
        kit.step("claimed with the code of the serial line; a wrong code is refused; a room is made")
        room = kit.claim_and_make_a_room(box)
        kit.data_has_the_rest(box)
        status, facts = box.api("GET", "/api/v1/box")
        if status != 200 or facts["phone"]["sip"] != f"sip:reunion@{outside.INSIDE}:5060":
            raise Failed(f"telephones are told to call another address: {status} {facts}")
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
        since_certificate = box.said(r"Certificate / Certificat +([0-9A-F]{2}(?::[0-9A-F]{2}){31})\s", 30 * kit.SLACK, since).group(1)
        if since_certificate != fingerprint:
            raise Failed("the certificate changed with the update")
        kit.page_is_encrypted(box, fingerprint)

        kit.step("version 1 is refused: older than what runs")
        since = box.mark()
        box.plug(kit.stick("old.img", palabre_plbu=kit.out(arch, 1, f"palabre-{arch}-core-1.plbu")))
        print("      " + box.said(r"Update refused: (error\[version-older\].*)\n", 120 * kit.SLACK, since).group(1).strip())
        box.pull()


def release():
    """An image as it is shipped, of keys made as the manual says, in a token: firmware that enforces Secure Boot takes its certificate and
    starts it, and its console does not warn of keys that anybody has."""
    image = os.path.join(WORK, "try", "release", "palabre-amd64-core-11.img")
    with Box("amd64", image, fresh(os.path.join(WORK, "test", "release")), options=["--secure-boot", "on"]) as box:
        kit.step("a release starts; firmware in setup mode takes the certificate of its keys, then enforces")
        box.start()
        box.said(r"(?i)enroll", 60 * kit.SLACK)
        kit.note("a release, with keys to enroll: power on to /readyz", box.ready(120 * kit.SLACK), "s")
        box.said(r"Palabre \S+\+11\n", 60 * kit.SLACK)
        box.said(r"Secure Boot +on / activé", 60 * kit.SLACK)
        kit.step("claimed with the code of its console, which warned of nothing")
        kit.claim_and_make_a_room(box)
        # From here on all of what it said before is there.
        box.said(r"Claimed: the box has its administrator", 60 * kit.SLACK)
        if found := box.seen(DEVELOPMENT):
            raise Failed(f"the console of a release warns of keys for development: {found.group(0)}")
        if try_page.ask(box, "GET", "")["runs"]["development"]:
            raise Failed("the API says that a release trusts keys for development")

        kit.step("the next release comes by stick, and is on trial for as long as on any box")
        since = kit.update(box, 12)
        box.said(r"Palabre \S+\+12\n", 120 * kit.SLACK, since)
        box.ready(120 * kit.SLACK)
        began = time.monotonic()
        state = try_page.ask(box, "GET", "")
        if state["runs"]["version"] != 12 or not state["on_trial"]:
            raise Failed(f"it is not on trial: {state}")
        box.said(r"version 12 is good", 900 * kit.SLACK, since)
        took = time.monotonic() - began
        kit.note("a release is on trial after /readyz for", took, "s")
        # From outside it is seen to answer some seconds later than from inside.
        if took < GOOD_FOR - 15:
            raise Failed(f"it proved good within {took:.0f} s, and should take {GOOD_FOR}")
        if try_page.ask(box, "GET", "")["on_trial"]:
            raise Failed("it proved good, and the API says that it is on trial")


SCENARIOS = {
    "life": lambda: life("amd64"),
    "asked": lambda: try_page.asked(kit),
    "settings": lambda: try_page.settings(kit),
    "stick": lambda: try_stick.stick(kit),
    "reset": lambda: try_reset.reset(kit),
    "ports": lambda: try_ports.ports(kit),
    "broken": lambda: try_faults.broken(kit),
    "damaged": lambda: try_faults.damaged(kit),
    "worn": lambda: try_faults.worn(kit),
    "menu": lambda: try_starts.menu(kit),
    "restored": lambda: try_data.restored(kit),
    "hung": lambda: try_starts.hung(kit),
    "still": lambda: try_starts.still(kit),
    "ended": lambda: try_starts.ended(kit),
    "power": lambda: try_faults.power(kit),
    "written": lambda: try_faults.written(kit),
    "guarded": lambda: guard.guarded(kit),
    "release": release,
    "late": lambda: trouble.late(kit),
    "alone": lambda: trouble.alone(kit),
    "filled": lambda: trouble.full(kit),
    "browser": lambda: try_room.browser(kit),
    "room": lambda: try_room.room(kit, "amd64"),
    "room-arm64": lambda: try_room.room(kit, "arm64"),
    "arm64": lambda: life("arm64"),
}


# They run first, and alone: the figures of two have targets for a machine that does nothing else; the firmware of two gathers all
# processors for each look at a variable, which takes emulated ones seconds on a busy machine; the way back of four is
# promised within six minutes, and nothing is added to them for a machine that has another scenario to run.
ALONE = ["life", "arm64", "guarded", "release", "broken", "damaged", "worn", "still"]
# Those that take longest begin first, so that no lane is left with one of them at the end.
LONGEST = ["power", "written", "room", "room-arm64"]


def one(name):
    """Runs one scenario, in this process; its figures are left for who asked for it. Whether it held."""
    kit.scenario = name
    # The box ends with its scenario, not with the emulator's own patience.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    kit.step(f"== {name}")
    held = False
    try:
        SCENARIOS[name]()
        held = True
    except Failed as failure:
        print(f"FAILED: {name}: {failure}", flush=True)
    except Exception:
        # A box that answers nonsense fails its scenario, not those after it.
        print(f"FAILED: {name}: {traceback.format_exc()}", flush=True)
    with open(lanes.result_of(name), "w") as written:
        json.dump({"figures": kit.figures, "missed": kit.missed}, written)
    return held


def main():
    sets = {"quick": ["life"], "full": list(SCENARIOS)}
    parser = argparse.ArgumentParser(description="Puts images to the test in QEMU.")
    parser.add_argument("--lanes", type=int, metavar="N", help="how many run at the same time: 2 for full, otherwise 1")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("asked", nargs="+", choices=[*sets, *SCENARIOS], metavar="quick|full|SCENARIO",
                        help=f"scenarios: {', '.join(SCENARIOS)}")
    given = parser.parse_args()
    if given.one:
        sys.exit(0 if one(given.asked[0]) else 1)
    if given.lanes is not None and given.lanes < 1:
        parser.error("--lanes takes a number from 1")
    names = list(dict.fromkeys(name for word in given.asked for name in sets.get(word, [word])))
    together = [name for name in LONGEST if name in names] + [name for name in names if name not in ALONE + LONGEST]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="results-", dir=os.path.join(WORK, "test")) as folder:
        ways = lanes.Lanes([sys.executable, os.path.abspath(__file__), "--one"], folder)
        for name in ALONE:
            if name in names:
                ways.run([name], 1)
        ways.run(together, given.lanes or (2 if "full" in given.asked else 1))
        figures, missed = ways.collected(names)
    with open(os.path.join(WORK, "test", "figures.json"), "w") as written:
        json.dump(figures, written, indent=1)
    for name in ways.failed:
        print(f"FAILED: {name}", flush=True)
    for miss in missed:
        print(f"MISSED: {miss}", flush=True)
    print(f"{len(names) - len(ways.failed)} passed, {len(ways.failed)} failed, {len(missed)} targets missed", flush=True)
    sys.exit(1 if ways.failed or missed else 0)


if __name__ == "__main__":
    main()
