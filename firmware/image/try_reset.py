"""Nobody knows the password any more, or the program does not start any more: a stick begins anew. `kit` is kit.py."""

import mmap
import os
import time

import trouble
from box import WORK, Box, Failed, fresh, seen, tool

# As the box is named: the end of the serial number that the emulator gives it.
NAME = "palabre-0001"
# With which SQLite begins each of its files.
SQLITE = b"SQLite format 3\0"


def stick(kit, folder, name, words):
    path = os.path.join(folder, f"{name}.reset")
    with open(path, "w") as file:
        file.write(words)
    return kit.stick(f"{name}.img", palabre_reset=path)


def spoil_databases(disk):
    """Zeroes in the first page of every database on the disk of a box that is off, those of its backups too. How many there were."""
    raw = disk + ".raw"
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", seen(disk), seen(raw))
    begins = trouble.var_at(disk)
    found = []
    with open(raw, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(SQLITE, begins)
        while at >= 0:
            # In blocks of the file system: what is found elsewhere is a word in a program.
            if (at - begins) % 4096 == 0:
                found.append(at)
            at = content.find(SQLITE, at + 1)
    os.remove(raw)
    for at in found:
        trouble.wipe(disk, at, 4096)
    return len(found)


def erased(kit, box, since):
    """Leaves the stick in until the box has begun anew; its claim code then."""
    box.said(r"ALL DATA of this box will be erased in 30 seconds", 60 * kit.SLACK, since)
    box.said(r"Starting anew with empty data", 60 * kit.SLACK, since)
    box.gone(60 * kit.SLACK)
    since = box.mark()
    box.ready(120 * kit.SLACK)
    code = box.said(r"Claim code / Code +(\S+)\s", 60 * kit.SLACK, since).group(1)
    # It is still in, and does not erase a second time.
    box.said(r"The stick asks for a reset: pull it and plug it in again", 60 * kit.SLACK, since)
    box.pull()
    return code


def reset(kit, arch="amd64"):
    folder = fresh(os.path.join(WORK, "test", "reset"))
    with Box(arch, kit.out(arch, 1), folder) as box:
        kit.step("version 1 starts and is claimed")
        box.start()
        box.ready(120 * kit.SLACK)
        room = kit.claim_and_make_a_room(box)
        box.said(r"version 1 has proved good before", 60 * kit.SLACK)
        own = stick(kit, folder, "own", NAME.upper() + "\r\n")

        kit.step("a stick that names another box erases nothing")
        since = box.mark()
        plug_in_late(kit, box, stick(kit, folder, "other", "palabre-0002\n"))
        box.said(rf"Reset refused: the stick does not name this box, {NAME}", 60 * kit.SLACK, since)
        box.pull()

        kit.step("nor does one that names it and is pulled when the console says what will happen")
        since = box.mark()
        box.plug(own)
        box.said(r"To keep them, pull the stick now", 60 * kit.SLACK, since)
        box.pull()
        box.said(r"The stick was pulled: nothing is erased", 60 * kit.SLACK, since)
        kit.has_room(box, room)

        kit.step("left in, it begins anew: another claim code, another password, no room")
        since = box.mark()
        box.plug(own)
        code = erased(kit, box, since)
        room = kit.claim_and_make_a_room(box, code)
        status, names = kit.names_of_rooms(box)
        if status != 200 or len(names) != 1:
            raise Failed(f"rooms of before are there: {status} {names}")

        kit.step("its databases are spoiled: the program does not start, and the same stick begins anew")
        box.said(r"version 1 has proved good before", 60 * kit.SLACK, since)
        box.kill()
        box.gone(30)
        spoilt = spoil_databases(box.disk)
        if not spoilt:
            raise Failed("no database was found on the disk")
        print(f"      {spoilt} spoilt", flush=True)
        since = box.mark()
        box.start()
        box.control(30)
        plug_in_late(kit, box, own)
        if box.seen(r"Page +https://", since):
            raise Failed("the program has started with spoilt databases")
        kit.claim_and_make_a_room(box, erased(kit, box, since))


def plug_in_late(kit, box, path):
    """Plugs a stick in, again and again as the console asks for it, until the box takes it for one that was not left in."""
    deadline = time.monotonic() + 300 * kit.SLACK
    while time.monotonic() < deadline:
        here = box.mark()
        box.plug(path)
        said = box.said(r"pull it and plug it in again|Reset refused|ALL DATA", 180 * kit.SLACK, here).group(0)
        if said != "pull it and plug it in again":
            return
        box.pull()
        box.passes(10)
    raise Failed("the box takes every stick for one that was left in")
