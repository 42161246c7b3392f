"""What `fw test --full` does to a box besides asking nicely: versions that are broken in different ways, a root that is
damaged on the disk, power that goes in the middle of an installation or of writing.

Each scenario starts from a box of its own, so that one can be run alone: try.py NAME.
"""

import os
import random
import re
import shutil
import time

import try_page
from box import WORK, Box, Failed, fresh

# A different one each time, printed, so that a failure can be had again: PALABRE_TRY_SEED.
SEED = int(os.environ.get("PALABRE_TRY_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
# Of each kind, as the appliance promises; fewer while a scenario is being worked on.
CUTS = int(os.environ.get("PALABRE_TRY_CUTS", "20"))

# Versions that cannot stay, each with what the history must say of it. The overlays that break them: test.sh.
BROKEN = {
    3: ("the program ends at its start", "program"),
    6: ("the program hangs", "program"),
    7: ("the program is ready, but carries no call", "call"),
}


def broken(kit, arch="amd64"):
    """Each broken version goes back by itself to the one before it, and the box says which check failed."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "broken"))) as box:
        kit.step("version 1 starts and is claimed")
        box.start()
        box.ready(120 * kit.SLACK)
        room = kit.claim_and_make_a_room(box)
        for version, (what, check) in BROKEN.items():
            kit.step(f"version {version}: {what}; version 1 comes back by itself")
            since = kit.update(box, version, 40)
            began = time.monotonic()
            said = box.said(rf"version {version} is bad: (.*)|trial: (.*); going back", 900 * kit.SLACK, since)
            reason = (said.group(1) or said.group(2)).strip()
            if check not in reason:
                raise Failed(f"version {version} went back for another reason: {reason}")
            since = box.text.index(said.group(0), since)
            box.said(r"Palabre \S+\+1\n", 900, since)
            kit.note(f"return from version {version} ({what})", time.monotonic() - began, "s", 360, firm=True)
            box.ready(120 * kit.SLACK)
            print("      " + reason, flush=True)
            told_on_consoles(kit, box, version, check + ":", since)
            kit.has_room(box, room)
            told_why(kit, box, version, check + ": ")


def told_on_consoles(kit, box, version, why, since):
    """What stands on the screen as on the serial line says which version failed, and why. The judge's own words are on the latter alone."""
    print("      " + box.said(rf"  Failed / Échec +version {version}: {re.escape(why)}[^\n]*\n", 300 * kit.SLACK, since).group(0).strip(), flush=True)


def told_why(kit, box, version, why):
    """The API says of a version that went back what failed, as its state and as its history; `why` is how that begins."""
    state = try_page.until(box, "the box tells of its last failure", lambda state: state["last_failure"] is not None, 60 * kit.SLACK)
    failure = state["last_failure"]
    if state["runs"]["version"] != 1 or (failure["what"], failure["version"]) != ("bad", version) or not failure["cause"].startswith(why):
        raise Failed(f"the API names another failure than {why!r} of version {version}: {failure}; runs {state['runs']}")
    events = [event for event in try_page.ask(box, "GET", "/history")["events"] if event["version"] == version]
    if [event["what"] for event in events] != ["bad", "installed"] or events[0]["cause"] != failure["cause"]:
        raise Failed(f"the history of version {version} is another: {events}")
    print(f"      the API: {failure['code']}, {failure['cause']}", flush=True)


def damaged(kit, arch="amd64"):
    """A root that changed on the disk is never run: verity restarts the box, and the version before comes back."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "damaged"))) as box:
        kit.step("version 1 starts; version 2 is installed")
        box.start()
        box.ready(120 * kit.SLACK)
        kit.claim_and_make_a_room(box)
        kit.install(box, 2)
        box.kill()
        kit.step("a block in each MiB of version 2's root but the first is damaged; version 1 comes back by itself, and says why")
        box.damage("palabre_2")
        since = box.mark()
        box.start()
        began = time.monotonic()
        box.said(r"Palabre \S+\+1\n", 900 * kit.SLACK, since)
        kit.note("return from a damaged root", time.monotonic() - began, "s", 360, firm=True)
        if box.seen(r"Palabre \S+\+2\n", since):
            raise Failed("the damaged version served")
        box.ready(120 * kit.SLACK)
        told_on_consoles(kit, box, 2, "it ended 3 tries", since)
        kit.sign_in(box)
        told_why(kit, box, 2, "it ended 3 tries without a report")


def worn(kit, arch="amd64"):
    """One block that no start needs, of a version that had proved good, changes on the disk: verity meets it all the same, because a
    start counts until the whole root is read, and after three of them the version before takes its place."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "worn"))) as box:
        room = kit.with_proved(box, 2)
        box.kill()
        kit.step("one block of a driver that it does not need is damaged on the disk; version 1 takes its place by itself, and says why")
        with open(os.path.join(WORK, "root", f"{arch}-core", "boot", "release")) as file:
            modules = f"/usr/lib/modules/{file.read().strip()}/kernel"
        box.damage("palabre_2", at=kit.block_of(arch, 2, f"{modules}/drivers/net/ethernet/intel/i40e/i40e.ko.xz"))
        since = box.mark()
        box.start()
        began = time.monotonic()
        print("      " + box.said(r"version 2 was started 3 times in a row[^\n]*\n", 900 * kit.SLACK, since).group(0).strip())
        box.said(r"Palabre \S+\+1\n", 300 * kit.SLACK, since)
        kit.note("return from a version that was damaged after it had proved good", time.monotonic() - began, "s", 360, firm=True)
        print("      " + box.said(r"version 2 failed: [^\n]*\n", 120 * kit.SLACK, since).group(0).strip())
        told_on_consoles(kit, box, 2, "it was started 3", since)
        kit.sign_in(box)
        kit.has_room(box, room)
        kit.step("and stays: the next start is version 1's too")
        since = box.mark()
        box.qmp("system_reset")
        box.gone(30 * kit.SLACK)
        box.ready(120 * kit.SLACK)
        box.said(r"Palabre \S+\+1\n", 60 * kit.SLACK, since)
        # Not the reason, which stands on the console for as long as version 2 is there.
        if box.seen(r"version \d+ is started instead, in", since):
            raise Failed("starts are still counted against a version")


def as_it_runs(kit, arch, folder):
    """A box that runs version 1 and is claimed, frozen: where, its room, and its administrator's session."""
    print(f"      seed {SEED} (PALABRE_TRY_SEED), {CUTS} cuts", flush=True)
    with Box(arch, kit.out(arch, 1), os.path.join(folder, "first")) as box:
        kit.step("version 1 starts, is claimed, and is kept as it runs")
        box.start()
        box.ready(120 * kit.SLACK)
        room = kit.claim_and_make_a_room(box)
        kept = os.path.join(folder, "kept")
        box.freeze(kept)
        return kept, room, box.cookies


def power(kit, arch="amd64"):
    """The power goes at random moments of an installation: a complete version starts, with its data."""
    chance = random.Random(SEED)
    folder = fresh(os.path.join(WORK, "test", "power"))
    stick = kit.stick("power-stick.img", palabre_plbu=kit.out(arch, 2, f"palabre-{arch}-core-2.plbu"))
    kept, room, cookies = as_it_runs(kit, arch, folder)
    with Box(arch, kit.out(arch, 1), os.path.join(folder, "whole")) as box:
        box.cookies.cookiejar = cookies.cookiejar
        box.thaw(kept)
        began = time.monotonic()
        since = box.mark()
        box.plug(stick)
        box.said(r"Update installed", 120 * kit.SLACK, since)
        whole = time.monotonic() - began
    ended = {1: 0, 2: 0}
    slowest = 0.0
    for cut in range(CUTS):
        with Box(arch, kit.out(arch, 1), os.path.join(folder, "install")) as box:
            box.thaw(kept)
            after = chance.uniform(0, whole * 1.1)
            kit.step(f"installation, cut {cut + 1}: the power goes after {after:.1f} s of {whole:.0f}")
            box.plug(stick)
            box.passes(after)
            box.kill()
            since = box.mark()
            box.start()
            slowest = max(slowest, box.ready(900 * kit.SLACK))
            version = int(box.said(r"Palabre \S+\+(\d+)\n", 60 * kit.SLACK, since).group(1))
            ended[version] += 1
            kit.sign_in(box)
            kit.has_room(box, room)
        shutil.rmtree(os.path.join(folder, "install"))
    print(f"      started afterwards: version 1 {ended[1]} times, version 2 {ended[2]} times", flush=True)
    if CUTS >= 10 and ended[1] == 0:
        raise Failed("no cut fell into the installation: the moments were badly chosen")
    kit.note("slowest start after a power cut", slowest, "s")


def written(kit, arch="amd64"):
    """The power goes at random moments while rooms are made, one after the other: what was acknowledged is there."""
    chance = random.Random(SEED)
    folder = fresh(os.path.join(WORK, "test", "written"))
    kept, _, _ = as_it_runs(kit, arch, folder)
    slowest, rooms = 0.0, 0
    for cut in range(CUTS):
        with Box(arch, kit.out(arch, 1), os.path.join(folder, "write")) as box:
            box.thaw(kept)
            kit.sign_in(box)
            after = chance.uniform(0.2, 8)
            kit.step(f"writing, cut {cut + 1}: the power goes after {after:.1f} s")
            acknowledged = kit.write_until_dead(box, after)
            box.start()
            slowest = max(slowest, box.ready(900 * kit.SLACK))
            kit.sign_in(box)
            status, there = kit.names_of_rooms(box)
            lost = [name for name in acknowledged if name not in there]
            if status != 200 or lost:
                raise Failed(f"{len(lost)} of {len(acknowledged)} acknowledged rooms are gone: {lost[:3]}")
            rooms += len(acknowledged)
            print(f"      {len(acknowledged)} rooms were acknowledged, all are there", flush=True)
        shutil.rmtree(os.path.join(folder, "write"))
    if CUTS >= 10 and rooms < CUTS:
        raise Failed(f"only {rooms} rooms were acknowledged in {CUTS} cuts: hardly anything was put to the test")
    kit.note("slowest start after a power cut while rooms were written", slowest, "s")
