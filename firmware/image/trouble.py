"""Bad days of a box, each with what it has to do: a clock without a battery, a network that is late or not there, a disk that is
full, damaged, or beyond repair. `t` is try.py, with its steps and figures.
"""

import datetime
import email.utils
import json
import os
import re
import struct
import time

import outside
from box import WORK, Box, Failed, fresh, seen, tool
from picture import Picture

LINK = "net"


def var_at(disk):
    """Where /var begins on a disk, in bytes."""
    head = disk + ".head"
    tool("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=1", f"if={seen(disk)}", f"of={seen(head)}")
    with open(head, "rb") as file:
        table = file.read()
    for entry in range(128):
        start = 1024 + entry * 128
        name = table[start + 56:start + 128].decode("utf-16-le").rstrip("\0")
        if name == "palabre-var":
            return struct.unpack("<Q", table[start + 32:start + 40])[0] * 512
    raise Failed("the disk has no data partition")


def wipe(disk, offset, length):
    tool("qemu-io", "-f", "qcow2", "-c", f"write -P 0 {offset} {length}", seen(disk))


def clock_of(box):
    with box.opener.open(box.page + "/readyz", timeout=30) as answer:
        return email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()


def has(box, room):
    status, rooms = box.api("GET", "/api/v1/rooms")
    if status != 200 or room["id"] not in json.dumps(rooms):
        raise Failed(f"the room is gone: {status} {rooms}")


def late(t, arch="amd64"):
    """The clock says 1970 and the cable is plugged in late; then the disk is damaged, then destroyed."""
    folder = fresh(os.path.join(WORK, "test", "late"))
    with Box(arch, t.out(arch, 1), folder, machine=["-rtc", "base=1970-01-01T00:00:00"]) as box:
        t.step("a clock that says 1970, no cable: the box starts, and says that it has no network")
        box.start()
        box.control(30)
        box.qmp("set_link", name=LINK, up=False)
        box.said(r"No network yet", 90 * t.SLACK)
        before = box.said(r"Claim code / Code +(\S+)\s", 30 * t.SLACK).group(1)
        t.step("the cable comes: the console says the address, the page answers, the clock is not before the image")
        since = box.mark()
        plugged = time.monotonic()
        box.qmp("set_link", name=LINK, up=True)
        box.said(r"Page +https://10\.0\.2\.15/", 60 * t.SLACK, since)
        box.ready(60 * t.SLACK)
        t.note("cable to /readyz", time.monotonic() - plugged, "s")
        clock = clock_of(box)
        # The one of the image, and not one that systemd was built with.
        with open(t.out(arch, 1, "sbom.cdx.json")) as file:
            made = datetime.datetime.fromisoformat(json.load(file)["metadata"]["timestamp"]).timestamp()
        if not made <= clock < made + 3600:
            raise Failed(f"the clock says {time.strftime('%F %T', time.gmtime(clock))}, the image is of {time.strftime('%F %T', time.gmtime(made))}")
        # The console tells everything once more. Had Palabre started anew, its code would be another.
        code = box.said(r"Claim code / Code +(\S+)\s", 60 * t.SLACK, since).group(1)
        if code != before:
            raise Failed("Palabre has started anew because the network came")
        room = t.claim_and_make_a_room(box, code)
        t.step("guests and telephones are told the address that came, and hear each other")
        print(f"      {json.dumps(outside.call(box, room, 15 * t.SLACK))}", flush=True)

        t.step("the start of the data partition is destroyed: it is repaired without a question, the room is there")
        box.kill()
        box.gone(30)
        wipe(box.disk, var_at(box.disk), 4096)
        box.start()
        box.ready(90 * t.SLACK)
        has(box, room)

        t.step("all of it is destroyed: the console says what to do, and the box starts again by itself")
        box.kill()
        box.gone(30)
        wipe(box.disk, var_at(box.disk), 1 << 30)
        since = box.mark()
        box.start()
        box.said(r"something the box needs has failed", 90 * t.SLACK, since)
        since = box.mark()
        again = box.said(r"something the box needs has failed", 60 + 90 * t.SLACK, since)
        since += again.end()
        t.step("`reset`, typed twice, makes a new one")
        box.said(r"reset\?", 30 * t.SLACK, since)
        box.type("reset")
        box.said(r"Type reset once more", 30 * t.SLACK, since)
        since = box.mark()
        box.type("reset")
        box.said(r"Starting anew with empty data", 30 * t.SLACK, since)
        box.ready(90 * t.SLACK)
        box.said(r"Claim code / Code +\S+", 30 * t.SLACK, since)


def alone(t, arch="amd64"):
    folder = fresh(os.path.join(WORK, "test", "alone"))
    with Box(arch, t.out(arch, 1), folder, options=["--net", "none"], machine=["-device", "VGA"]) as box:
        t.step("no network card at all: the box starts, and its console says so")
        box.start()
        box.said(r"No network yet", 90 * t.SLACK)
        told = box.said(r"\nPalabre \S+\n(.*\n){2,8}  Claim code / Code +\S+.*\n(.*\n){1,2}"
                        r"  Certificate / Certificat [0-9A-F:]{95}\n(.*\n)?  Data / .*\n", 30 * t.SLACK).group(0).strip("\n")
        print("      " + told.replace("\n", "\n      "), flush=True)
        # The end of the serial number that the emulator gives it.
        if not re.search(r"  Box / Boîtier +palabre-0001\n", told):
            raise Failed("the box is not named by its serial number")
        t.step("its screen says the same: name, claim code, fingerprint")
        deadline = time.monotonic() + 30 * t.SLACK
        while not (picture := Picture(box)).reads(told):
            if time.monotonic() > deadline:
                picture.keep(os.path.join(folder, "console.png"))
                raise Failed(f"the screen says something else: {folder}/console.png")
            box.passes(1)
        picture.keep(os.path.join(folder, "console.png"))


def full(t, arch="amd64"):
    """Version 5 fills its disk before Palabre starts, and once more when it has, but not at its first start."""
    with Box(arch, t.out(arch, 5), fresh(os.path.join(WORK, "test", "full"))) as box:
        t.step("a disk without one free block: the box starts and serves")
        box.start()
        box.ready(60 * t.SLACK)
        room = t.claim_and_make_a_room(box)
        since = box.mark()
        box.qmp("system_reset")
        box.said(r"TEST: 0 KiB are left", 90 * t.SLACK, since)
        box.said(r"Palabre \S+\+5\n", 60 * t.SLACK, since)
        t.note("power on to /readyz with a full disk", box.ready(60 * t.SLACK), "s")
        has(box, room)
        t.step("and while it runs: what is stored is read, what is new is refused with 507 and the reason")
        box.said(r"TEST: again 0 KiB are left", 60 * t.SLACK, since)
        for _ in range(2000):
            status, answer = box.api("POST", "/api/v1/rooms", {"name": "x" * 100})
            if status != 201:
                break
        if status != 507 or "storage_full" not in str(answer):
            raise Failed(f"a room on a full disk was answered {status}: {answer}")
        print("      " + json.loads(answer)["detail"])
        has(box, room)
        box.ready(30)
