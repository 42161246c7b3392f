"""Starts that nobody planned: the version that a person chooses in the boot menu, a system that hangs, from its first step or
later, and is reset by the hardware watchdog, and a program that ends for good long after its version had proved good.
"""

import os
import time

import try_page
from box import WORK, Box, Failed, fresh

# What the test's overlay hangs, by the label of the stick that asks for it (full.sh), and how it is told.
HANGS = {"INIT": "PID 1 stands still", "KERNEL": "the kernel panics and stays there"}
# As long as system.conf gives the system between two words to the watchdog.
WATCHDOG = 30
# As long as palabre-init gives systemd to take the watchdog over, and how many tries a new version has.
WATCHDOG_OF_A_START, TRIES = 60, 3


def chosen(box, version, since):
    """Whether the menu has come, and shown this version's line once more, as the one that is chosen."""
    menu = box.seen(rf"Palabre \S+\+2 +Palabre \S+\+{version} +Boot in", since)
    return menu and box.seen(rf"Palabre \S+\+{version} ", since + menu.end())


def choose_other(kit, box, version):
    """In the boot menu of the start that comes next, the version below the one that would start by itself."""
    since = box.mark()
    box.qmp("system_reset")
    box.said(r"starting Boot", 120 * kit.SLACK, since)
    deadline = time.monotonic() + 30 * kit.SLACK
    # As people do it: again and again until the menu stands, where the last entry stays the last. Down: a serial line may cut the
    # sequence of the arrow in two.
    while not chosen(box, version, since):
        if time.monotonic() > deadline:
            raise Failed("the boot menu did not stay open")
        box.press("j")
        box.passes(0.2)
    since = box.mark()
    box.started = time.monotonic()
    box.press("\r")
    return since


def menu(kit, arch="amd64"):
    """The version before, by hand: for one start at first, and from then on once it has proved good."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "menu"))) as box:
        room = kit.with_proved(box, 2)

        kit.step("version 1 is chosen in the boot menu, and runs with the same data")
        since = choose_other(kit, box, 1)
        box.said(r"Palabre \S+\+1\n", 120 * kit.SLACK, since)
        box.ready(60 * kit.SLACK)
        kit.sign_in(box)
        kit.has_room(box, room)
        kit.step("restarted before it has proved good: version 2 starts, as if nobody had chosen")
        if box.seen(r"version 1 is good", since):
            raise Failed("version 1 proved good before it could be restarted: too slow a machine for this step")
        since = box.mark()
        box.qmp("system_reset")
        box.said(r"Palabre \S+\+2\n", 120 * kit.SLACK, since)
        box.ready(60 * kit.SLACK)

        kit.step("chosen again, version 1 proves good; it stays")
        since = choose_other(kit, box, 1)
        box.said(r"version 1 is good", 300 * kit.SLACK, since)
        kit.sign_in(box)
        since = box.mark()
        try_page.ask(box, "PUT", "/restart", {"when": "now"})
        box.gone(60 * kit.SLACK)
        box.said(r"Palabre \S+\+1\n", 120 * kit.SLACK, since)
        state = try_page.until(box, "version 1 runs", lambda state: state["runs"]["version"] == 1, 60 * kit.SLACK)
        if state["last_failure"] is not None:
            raise Failed(f"version 2 counts as failed, though nothing was wrong with it: {state['last_failure']}")
        kit.has_room(box, room)


def hung(kit, arch="amd64"):
    """A system that hangs: the watchdog of the board resets it, and the box serves again."""
    with Box(arch, kit.out(arch, 8), fresh(os.path.join(WORK, "test", "hung"))) as box:
        kit.step("version 8 starts and is claimed")
        box.start()
        box.ready(120 * kit.SLACK)
        room = kit.claim_and_make_a_room(box)
        for label, what in HANGS.items():
            kit.step(f"{what}: the watchdog resets the machine")
            since = box.mark()
            box.plug(kit.stick(f"{label.lower()}.img", label=label))
            box.said(rf"TEST: {label}\s", 60 * kit.SLACK, since)
            began = time.monotonic()
            told = box.event("WATCHDOG", WATCHDOG * kit.SLACK)
            if told != {"action": "reset"}:
                raise Failed(f"the watchdog did something else: {told}")
            kit.note(f"{what}: to the reset by the watchdog", time.monotonic() - began, "s", WATCHDOG)
            since = box.mark()
            box.started = time.monotonic()
            box.gone(30 * kit.SLACK)
            kit.note(f"{what}: reset to /readyz", box.ready(120 * kit.SLACK), "s")
            box.said(r"Palabre \S+\+8\n", 60 * kit.SLACK, since)
            box.pull()
            kit.sign_in(box)
            kit.has_room(box, room)
            state = try_page.ask(box, "GET", "")
            if state["on_trial"] or state["last_failure"] is not None:
                raise Failed(f"the reset counts against the version: {state}")


def is_back(kit, box, room, version):
    """The version before serves, with the same data, and the API says that this version is bad; what it says."""
    box.ready(120 * kit.SLACK)
    kit.sign_in(box)
    kit.has_room(box, room)
    state = try_page.until(box, f"version {version} has failed", lambda state: state["last_failure"] is not None, 60 * kit.SLACK)
    failure = state["last_failure"]
    if (failure["what"], failure["version"]) != ("bad", version):
        raise Failed(f"the API names another failure: {failure}")
    return failure


def still(kit, arch="amd64"):
    """A version that stands still before its system runs: the watchdog ends each of its tries, and the version before comes back."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "still"))) as box:
        kit.step("version 1 starts and is claimed; version 10 is installed and starts")
        box.start()
        box.ready(120 * kit.SLACK)
        room = kit.claim_and_make_a_room(box)
        since = kit.update(box, 10)
        began = time.monotonic()
        for number in range(1, TRIES + 1):
            since += box.said(r"TEST: STILL\s", 120 * kit.SLACK, since).end()
            stands = time.monotonic()
            told = box.event("WATCHDOG", (WATCHDOG_OF_A_START + 30) * kit.SLACK)
            if told != {"action": "reset"}:
                raise Failed(f"the watchdog did something else: {told}")
            kit.note(f"try {number} stands still to its reset", time.monotonic() - stands, "s", WATCHDOG_OF_A_START, firm=True)
        box.said(r"Palabre \S+\+1\n", 300 * kit.SLACK, since)
        kit.note("return from a version that stands still at its first step", time.monotonic() - began, "s", 360, firm=True)
        failure = is_back(kit, box, room, 10)
        print(f"      the API: {failure['code']}, {failure['cause']}", flush=True)


def ended(kit, arch="amd64"):
    """The program of a version that had proved good ends at each start from some day on: the version before comes back."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "ended"))) as box:
        room = kit.with_proved(box, 9)
        kit.step("its program ends, and at each start from now on; the box is switched off and on")
        since = box.mark()
        box.plug(kit.stick("program.img", label="PROGRAM"))
        box.said(r"TEST: PROGRAM\s", 60 * kit.SLACK, since)
        box.gone(30 * kit.SLACK)
        box.pull()
        since = box.mark()
        box.qmp("system_reset")
        began = time.monotonic()
        kit.step("after three starts that did not serve version 1 takes its place, and says why")
        print("      " + box.said(r"version 9 was started 3 times in a row[^\n]*\n", 900 * kit.SLACK, since).group(0).strip(), flush=True)
        box.said(r"Palabre \S+\+1\n", 300 * kit.SLACK, since)
        kit.note("return from a version whose program ended after it had proved good", time.monotonic() - began, "s")
        if box.seen(r"Palabre \S+\+9\n", since):
            raise Failed("version 9 served")
        failure = is_back(kit, box, room, 9)
        print(f"      the API: {failure['why']}", flush=True)
