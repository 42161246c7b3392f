"""What every scenario of `fw test` does with an emulated box: sticks, claims, updates, and the figures that come of it.

Each step says what it showed and what it took; the first that fails ends the run with the end of the serial line.
"""

import atexit
import json
import os
import re
import subprocess
import threading
import time
import urllib.request

import lanes
from box import FIRMWARE, WORK, Failed, seen

# On an idle two-core machine without KVM; a busy one may take this many times longer before a step is called hung.
SLACK = 8
# And this many times longer than its target before a figure has missed it: other machines than the idle one of the targets.
TARGET_SLACK = float(os.environ.get("PALABRE_TRY_SLACK", "2"))
figures = {}
missed = []
# The scenario that this process runs.
scenario = ""


def note(name, value, unit, target=None, firm=False):
    """A figure; seconds may be TARGET_SLACK times the target, twice as much when two scenarios share the machine; sizes may not, nor
    what is a promise and no speed: `firm`."""
    beside = os.path.exists(lanes.ran_beside(scenario))
    slack = 1 if firm or unit != "s" else 2 * TARGET_SLACK if beside else TARGET_SLACK
    if target is not None and value > target * slack:
        missed.append(f"{name}: {value:.1f} {unit}, target {target}")
    figures[name] = {"value": round(value, 1), "unit": unit, "target": target, "beside another": beside}
    words = [f"target {target}"] * (target is not None) + ["beside another"] * beside
    print(f"      {name}: {value:.1f} {unit}" + (f"  ({', '.join(words)})" if words else ""), flush=True)


BEGAN = time.monotonic()
PASSWORD = "correct horse battery"


def step(words):
    print(f"[{time.monotonic() - BEGAN:5.0f}s] {words}", flush=True)


def out(arch, version, name="", flavour="core"):
    folder = os.path.join(WORK, "try", f"{arch}-{flavour}-{version}")
    return os.path.join(folder, name or f"palabre-{arch}-{flavour}-{version}.img")


def own(name):
    """A file of this run, gone with it: scenarios may run side by side."""
    path = os.path.join(WORK, "test", f"{os.getpid()}-{name}")
    atexit.register(lambda: os.path.exists(path) and os.remove(path))
    return path


def block_of(arch, version, path):
    """Where the first block of a file is in a version's root, in bytes."""
    words = [os.path.join(FIRMWARE, "image", "tool.sh"), "dump.erofs", f"--path={path}", "-e", seen(out(arch, version, "root"))]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    first = re.search(r"^\s*0:\s+0\.\.\s*\d+ \|\s*\d+ :\s+(\d+)\.\.", listed, re.M)
    if not first or first.group(1) == "0":
        raise Failed(f"{path} has no block of its own in the root:\n{listed}")
    return int(first.group(1)) // 4096 * 4096


def stick(name, label="PALABRE", **files):
    """A stick with the given files."""
    path = own(name)
    size = sum(os.path.getsize(f) for f in files.values()) // 2**20 + 40
    with open(path, "wb") as image:
        image.truncate(size * 2**20)
    tool = [os.path.join(FIRMWARE, "image", "tool.sh")]
    subprocess.run(tool + ["mkfs.vfat", "-F", "32", "-n", label, seen(path)], check=True, stdout=subprocess.DEVNULL)
    for target, source in files.items():
        subprocess.run(tool + ["mcopy", "-i", seen(path), seen(source), "::" + target.replace("_", ".")], check=True)
    return path


def tampered(source):
    path = own("tampered.plbu")
    with open(source, "rb") as bundle, open(path, "wb") as copy:
        content = bytearray(bundle.read())
        content[len(content) // 2] ^= 1
        copy.write(content)
    return path


def claim_and_make_a_room(box, code=None):
    """With the code of the console, the first it showed unless one is given."""
    code = code or box.said(r"Claim code / Code +(\S+)\s", 60 * SLACK).group(1)
    status, _ = box.api("POST", "/api/v1/claim", {"code": "AAAA-AAAA-AAAA-AAAA", "password": PASSWORD})
    if status != 401:
        raise Failed(f"a wrong claim code was answered {status}, not 401")
    status, answer = box.api("POST", "/api/v1/claim", {"code": code, "password": PASSWORD})
    if status != 204:
        raise Failed(f"the claim was answered {status}: {answer}")
    status, room = box.api("POST", "/api/v1/rooms", {"name": "Essai"})
    if status not in (200, 201):
        raise Failed(f"the room was answered {status}: {room}")
    return room


# What a disk of the emulator has, and the part of it that is not /var: two slots of a core and what they start from, in MiB.
DISK, SLOTS = 4096, 300 + 2 * (16 + 640)


def data_has_the_rest(box):
    """/var has all of the disk but the slots; a twelfth of it may be what the file system keeps for itself."""
    status, storage = box.api("GET", "/api/v1/appliance/storage")
    if status != 200:
        raise Failed(f"the storage is not told: {status} {storage}")
    has, rest = storage["bytes"] / 2**20, DISK - SLOTS
    if not rest * 11 / 12 <= has <= rest:
        raise Failed(f"/var has {has:.0f} MiB of the {rest} that the slots leave")
    note("data partition, of a disk of 4 GiB", has, "MiB")


def page_is_there(box):
    # Programs get "OK" at this address, browsers the page.
    request = urllib.request.Request(box.page + "/", headers={"Accept": "text/html"})
    with box.opener.open(request, timeout=60) as answer:
        text = answer.read().decode()
    script = re.search(r'src="(/assets/[^"]+)"', text)
    if not script:
        raise Failed("the page is not in the image")
    box.opener.open(box.page + script.group(1), timeout=60).close()


def page_is_encrypted(box, fingerprint):
    """The certificate is the one on the console, and plain http leads to it and to nothing else."""
    served = box.fingerprint()
    if served != fingerprint:
        raise Failed(f"the console shows the certificate {fingerprint}, the box serves {served}")
    # The health check is for the box itself.
    for path in ["/", "/readyz", "/api/v1/box"]:
        led = box.redirect(path)
        if led != (308, box.page + path):
            raise Failed(f"plain http at {path} was answered {led}")


def sign_in(box):
    """As the administrator: a box that was kept, or whose power went, may not know the session."""
    status, answer = box.api("POST", "/api/v1/session", {"password": PASSWORD})
    if status not in (200, 204):
        raise Failed(f"the administrator is answered {status}: {answer}")


def has_room(box, room):
    status, rooms = box.api("GET", "/api/v1/rooms")
    if status != 200 or room["id"] not in json.dumps(rooms):
        raise Failed(f"the room made before is gone: {status} {rooms}")


def names_of_rooms(box):
    """Of all pages of the list; the last status beside them."""
    names, page = set(), ""
    while True:
        status, answer = box.api("GET", "/api/v1/rooms" + page)
        if status != 200:
            return status, names
        names.update(room["name"] for room in answer["rooms"])
        if answer.get("next") is None:
            return status, names
        page = f"?before={answer['next']}"


def write_until_dead(box, after):
    """Makes rooms, one after the other, until the power goes `after` seconds later. The names that were acknowledged."""
    acknowledged = []
    cut = threading.Timer(after, box.kill)
    cut.start()
    try:
        for number in range(100_000):
            name = f"Ecrit {number:05}"
            status, _ = box.api("POST", "/api/v1/rooms", {"name": name})
            if status not in (200, 201):
                raise Failed(f"a room was answered {status}")
            acknowledged.append(name)
    except OSError:
        pass
    cut.join()
    return acknowledged


def install(box, version, target=None, flavour="core"):
    """Brings a version by stick, which stays in."""
    path = stick(f"v{version}.img", palabre_plbu=out(box.arch, version, f"palabre-{box.arch}-{flavour}-{version}.plbu", flavour))
    since = box.mark()
    box.plug(path)
    box.said(r"Update found on the stick", 60 * SLACK, since)
    began = time.monotonic()
    said = box.said(r"Update installed|Update refused: .*", 120 * SLACK, since).group(0).strip()
    if said != "Update installed":
        raise Failed(said)
    note(f"install of version {version}", time.monotonic() - began, "s", target)


def update(box, version, target=None, flavour="core"):
    """Brings a version by stick, pulls it; the restart begins. From where the serial line tells of it."""
    install(box, version, target, flavour)
    since = box.mark()
    box.pull()
    # While somebody is in a meeting, and for a minute after, it does not begin.
    box.gone(120 * SLACK)
    box.started = time.monotonic()
    return since


def with_proved(box, version):
    """Starts version 1, claims it, and brings another one until it has proved good. The room that was made."""
    step(f"version 1 starts; version {version} is installed and proves good")
    box.start()
    box.ready(120 * SLACK)
    room = claim_and_make_a_room(box)
    since = update(box, version)
    box.said(rf"version {version} is good", 300 * SLACK, since)
    return room
