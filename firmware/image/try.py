"""Puts images to the test in QEMU: what `fw test` runs once they are built. try.py quick|full

Each step says what it showed and what it took; the first that fails ends the run with the end of the serial line.
Runs in a network namespace of its own (test.sh makes it), so that the box's ports are free.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request

from box import FIRMWARE, WORK, Box, Failed, fresh

# On an idle two-core machine without KVM; a busy one may take this many times longer before a step is called hung.
SLACK = 8
figures = {}


def note(name, value, unit, target=None):
    figures[name] = {"value": round(value, 1), "unit": unit, "target": target}
    beside = "" if target is None else f"  (target {target})"
    print(f"      {name}: {value:.1f} {unit}{beside}", flush=True)


def step(words):
    print(f"[{time.monotonic() - BEGAN:5.0f}s] {words}", flush=True)


def out(arch, version, name=""):
    folder = os.path.join(WORK, "out", f"{arch}-core-{version}")
    return os.path.join(folder, name or f"palabre-{arch}-core-{version}.img")


def stick(name, **files):
    """A stick labelled PALABRE with the given files."""
    path = os.path.join(WORK, "test", name)
    size = sum(os.path.getsize(f) for f in files.values()) // 2**20 + 40
    with open(path, "wb") as image:
        image.truncate(size * 2**20)
    tool = [os.path.join(FIRMWARE, "image", "tool.sh")]
    seen = lambda p: "/w" + p[len(WORK):]
    subprocess.run(tool + ["mkfs.vfat", "-F", "32", "-n", "PALABRE", seen(path)], check=True, stdout=subprocess.DEVNULL)
    for target, source in files.items():
        subprocess.run(tool + ["mcopy", "-i", seen(path), seen(source), "::" + target.replace("_", ".")], check=True)
    return path


def tampered(source):
    path = os.path.join(WORK, "test", "tampered.plbu")
    with open(source, "rb") as bundle, open(path, "wb") as copy:
        content = bytearray(bundle.read())
        content[len(content) // 2] ^= 1
        copy.write(content)
    return path


def claim_and_make_a_room(box):
    code = box.said(r"Claim code\s+(\S+)", 60 * SLACK).group(1)
    status, _ = box.api("POST", "/api/v1/claim", {"code": "AAAA-AAAA-AAAA-AAAA", "password": "correct horse battery"})
    if status != 401:
        raise Failed(f"a wrong claim code was answered {status}, not 401")
    status, answer = box.api("POST", "/api/v1/claim", {"code": code, "password": "correct horse battery"})
    if status != 204:
        raise Failed(f"the claim was answered {status}: {answer}")
    status, room = box.api("POST", "/api/v1/rooms", {"name": "Essai"})
    if status not in (200, 201):
        raise Failed(f"the room was answered {status}: {room}")
    return room


def page_is_there(box):
    # Programs get "OK" at this address, browsers the page.
    request = urllib.request.Request(box.page + "/", headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    script = re.search(r'src="(/assets/[^"]+)"', text)
    if not script:
        raise Failed("the page is not in the image")
    urllib.request.urlopen(box.page + script.group(1), timeout=60).close()


def update(box, version, install_target):
    """Brings a version by stick, pulls it, waits for the restart."""
    path = stick(f"v{version}.img", palabre_plbu=out(box.arch, version, f"palabre-{box.arch}-core-{version}.plbu"))
    since = box.mark()
    box.plug(path)
    box.said(r"Update found on the stick", 60 * SLACK, since)
    began = time.monotonic()
    box.said(r"Update installed|Update refused.*", 120 * SLACK, since)
    if "Update installed" not in box.text[since:]:
        raise Failed("the update was refused: " + box.text[since:].strip().splitlines()[-1])
    note(f"install of version {version}", time.monotonic() - began, "s", install_target)
    since = box.mark()
    box.started = time.monotonic()
    box.pull()
    return since


def quick(arch):
    ready_target = 30 if arch == "amd64" else 45
    with Box(arch, out(arch, 1), fresh(os.path.join(WORK, "test", arch))) as box:
        step(f"{arch}: first start of version 1")
        box.start()
        note("power on to /readyz, first start", box.ready(ready_target * SLACK), "s", ready_target)
        page_is_there(box)
        box.said(r"DEVELOPMENT KEYS", 30 * SLACK)
        fingerprint = box.said(r"Certificate\s+(\S+)", 30 * SLACK).group(1)
        step("claimed with the code of the serial line; a wrong code is refused; a room is made")
        room = claim_and_make_a_room(box)
        note("memory in use at idle", box.memory_used(), "MiB", 150)

        step("a bundle with one bit changed is refused")
        since = box.mark()
        box.plug(stick("tampered.img", palabre_plbu=tampered(out(arch, 2, f"palabre-{arch}-core-2.plbu"))))
        refusal = box.said(r"Update refused: (.*)", 120 * SLACK, since).group(1)
        print("      " + refusal.strip())
        box.pull()

        step("version 2 is installed, starts on trial, is blessed")
        since = update(box, 2, 40)
        box.said(r"Palabre \S+\+2\n", 120 * SLACK, since)
        note("restart to /readyz of version 2", box.ready(120 * SLACK), "s")
        box.said(r"version 2 is good", 120 * SLACK, since)
        status, rooms = box.api("GET", "/api/v1/rooms")
        if status != 200 or room["id"] not in json.dumps(rooms):
            raise Failed(f"the room made before the update is gone: {status} {rooms}")
        since_certificate = box.said(r"Certificate\s+(\S+)", 30 * SLACK, since).group(1)
        if since_certificate != fingerprint:
            raise Failed("the certificate changed with the update")

        step("version 1 is refused: older than what runs")
        since = box.mark()
        box.plug(stick("old.img", palabre_plbu=out(arch, 1, f"palabre-{arch}-core-1.plbu")))
        print("      " + box.said(r"Update refused: (.*)", 120 * SLACK, since).group(1).strip())
        box.pull()

        step("version 3, whose program ends at its start: version 2 comes back by itself")
        since = update(box, 3, 40)
        began = time.monotonic()
        box.said(r"Palabre \S+\+3\s", 120 * SLACK, since)
        back = box.said(r"version 3 .*|Palabre \S+\+2\n", 900, since)
        box.said(r"Palabre \S+\+2\n", 900, since)
        note("return from a bad version", time.monotonic() - began, "s", 360)
        box.ready(120 * SLACK)
        print("      " + back.group(0).strip())


def boot_only(arch):
    with Box(arch, out(arch, 1), fresh(os.path.join(WORK, "test", arch))) as box:
        step(f"{arch}: first start of version 1")
        box.start()
        note(f"{arch}: power on to /readyz, first start", box.ready(45 * SLACK), "s", 45)
        claim_and_make_a_room(box)
        note(f"{arch}: memory in use at idle", box.memory_used(), "MiB", 150)


BEGAN = time.monotonic()
try:
    quick("amd64")
    if sys.argv[1] == "full":
        boot_only("arm64")
except Failed as failure:
    print(f"FAILED: {failure}", flush=True)
    sys.exit(1)
finally:
    with open(os.path.join(WORK, "test", "figures.json"), "w") as written:
        json.dump(figures, written, indent=1)
print("all of it held")
