"""A box in a room without DHCP: its administrator brings settings on a stick (palabre.toml). `kit` is kit.py."""

import collections
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

import outside
import trouble
import try_page
import try_ports
from box import FIRMWARE, WORK, Box, Failed, fresh, seen

# Where the forwarded ports lead, and nothing to leave that network by.
NETWORK = f'[network]\naddress = "{outside.INSIDE}/24"\n'
TIME = '[time]\nntp = ["10.0.2.2"]\nzone = "Europe/Paris"\n'
CERTIFICATE = '[certificate]\nchain = "box.pem"\nkey = "box.key"\n'
# The emulator's own end is where those outside come from.
PROGRAM = '[http]\nphone_number = "+33 1 99 00 00 00"\nmetrics_from = ["10.0.2.2"]\n[sip]\ntrunks = ["10.0.2.2"]\n'
# Seconds that the time server is ahead of this machine, whose clock the box has when it starts.
AHEAD = 3 * 3600
# As IEEE 802.1Q says it in a frame.
TAGGED = b"\x81\x00"


def settings(kit, folder, name, text, **files):
    path = os.path.join(folder, f"{name}.toml")
    with open(path, "w") as file:
        file.write(text)
    return kit.stick(f"{name}.img", palabre_toml=path, **files)


def taken(kit, box, stick):
    """Plugs a stick in, and pulls it once the console has said that its settings are taken."""
    since = box.mark()
    box.plug(stick)
    said = box.said(r"Settings taken from the stick\.|Settings on the stick refused:[^\n]*", 60 * kit.SLACK, since).group(0)
    if "refused" in said:
        raise Failed(said)
    box.pull()


def damaged(path):
    """Spoils a stick: its label can be read, its files cannot. Zeroes take the place of its two FATs."""
    with open(path, "r+b") as file:
        first = file.read(512)
        reserved, tables, sectors = struct.unpack_from("<H", first, 14)[0], first[16], struct.unpack_from("<I", first, 36)[0]
        file.seek(reserved * 512)
        file.write(bytes(tables * sectors * 512))
    return path


def of_another_kind(path):
    """A stick labelled as people type it, and a file system that no box reads: as much of an ext2 superblock as its label takes."""
    with open(path, "wb") as file:
        file.truncate(8 * 2**20)
        for offset, field in [(56, b"\x53\xef"), (76, struct.pack("<I", 1)), (120, b"Palabre")]:
            file.seek(1024 + offset)
            file.write(field)
    return path


def time_server():
    """Answers NTP (RFC 5905, figure 8) where the emulator leads what the box sends to 10.0.2.2."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", 123))

    def answer():
        while True:
            asked, whence = line.recvfrom(512)
            if len(asked) >= 48:
                # From 1900, in 1/2^32 s.
                now = int((time.time() + AHEAD + 2208988800) * 2**32)
                # Version 4, mode server, stratum 2, exact to 2^-20 s, no delay.
                line.sendto(struct.pack(">BBBbII4sQ8sQQ", 0x24, 2, asked[2], -20, 0, 0, b"LOCL", now, asked[40:48], now, now), whence)

    threading.Thread(target=answer, daemon=True).start()


def tags(path):
    """How many frames of the box each VLAN has had so far; None is without."""
    count = collections.Counter()
    for frame in try_ports.frames(path):
        # Those of the emulator's own end begin with 52:55.
        if len(frame) > 18 and frame[6:8] != b"\x52\x55":
            count[struct.unpack_from(">H", frame, 14)[0] & 0xfff if frame[12:14] == TAGGED else None] += 1
    return count


def on_vlan(kit, box, path, vlan):
    """Waits until frames of the box are in `vlan`; how many each VLAN has had then."""
    before = tags(path)
    deadline = time.monotonic() + 60 * kit.SLACK
    while tags(path)[vlan] < before[vlan] + 3:
        if time.monotonic() > deadline:
            raise Failed(f"no frame of the box in VLAN {vlan}: {dict(tags(path))}")
        box.passes(0.2)
    return tags(path)


def stick(kit, arch="amd64"):
    """A fixed address, NTP, a certificate and a VLAN come by stick; each stick changes what it names."""
    folder = fresh(os.path.join(WORK, "test", "stick"))
    path = os.path.join(folder, "net.pcap")
    machine = ["-object", f"filter-dump,id=recording,netdev=net,file={seen(path)}"]
    chain, key = os.path.join(folder, "box.pem"), os.path.join(folder, "box.key")
    subprocess.run([os.path.join(FIRMWARE, "image", "tool.sh"), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "365", "-subj", "/CN=box.example.org", "-addext",
                    "subjectAltName=DNS:box.example.org", "-keyout", seen(key), "-out", seen(chain)], check=True, capture_output=True)
    with open(chain) as file:
        brought = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest()
    time_server()
    with Box(arch, kit.out(arch, 1), folder, machine=machine) as box:
        kit.step("a new box starts with a stick in it that gives it an address, as where no DHCP is; it is claimed")
        since = box.mark()
        box.start(*Box.plugged(settings(kit, folder, "first", NETWORK + 'gateway = "10.0.2.2"\n')))
        box.ready(120 * kit.SLACK)
        box.said(r"Settings taken from the stick", 60 * kit.SLACK, since)
        room = kit.claim_and_make_a_room(box)
        network = try_page.ask(box, "GET", "/network")
        if (network["kept"].get("address"), network["kept"].get("gateway")) != (f"{outside.INSIDE}/24", "10.0.2.2"):
            raise Failed(f"the stick of the first start gave it another network: {network}")
        box.pull()

        kit.step("a damaged stick, and one that is not FAT, are not passed over without a word")
        for unreadable in [damaged(kit.stick("damaged.img")), of_another_kind(kit.own("ext2.img"))]:
            since = box.mark()
            box.plug(unreadable)
            print("      " + box.said(r"The stick cannot be read; it has to be FAT32\. \S[^\n]*\n", 60 * kit.SLACK, since).group(0).strip(), flush=True)
            box.pull()

        kit.step("a stick gives it a fixed address, without a router to leave by, a time server and a certificate")
        taken(kit, box, settings(kit, folder, "fixed", NETWORK + TIME + CERTIFICATE, box_pem=chain, box_key=key))
        network = try_page.ask(box, "GET", "/network")
        if network["kept"].get("address") != f"{outside.INSIDE}/24" or network["kept"].get("gateway"):
            raise Failed(f"another network is kept: {network}")
        clock = try_page.ask(box, "GET", "/time")
        if "10.0.2.2" not in str(clock) or "Europe/Paris" not in str(clock):
            raise Failed(f"another time is kept: {clock}")
        if box.fingerprint().replace(":", "").lower() != brought:
            raise Failed("the certificate of the stick is not served")
        kit.step(f"its clock becomes that of the time server, {AHEAD // 3600} hours ahead")
        deadline = time.monotonic() + 60 * kit.SLACK
        while abs((off := trouble.clock_of(box) - time.time()) - AHEAD) > 10:
            if time.monotonic() > deadline:
                raise Failed(f"the box is {off:.0f} s ahead, its time server {AHEAD} s")
            box.passes(1)

        kit.step("it has no way out any more, and carries a call on its network, after a restart too")
        since = box.mark()
        box.qmp("system_reset")
        box.gone(30 * kit.SLACK)
        box.ready(120 * kit.SLACK)
        box.said(r"Page +https://", 60 * kit.SLACK, since)
        print(f"      {json.dumps(outside.call(box, room, 15 * kit.SLACK))}", flush=True)
        box.said(r"version 1 has proved good before", 60 * kit.SLACK, since)
        kit.sign_in(box)
        print(f"      {try_page.ask(box, 'GET', '/network')['ports']}", flush=True)

        kit.step("a stick that names the time only leaves address and certificate as they are")
        taken(kit, box, settings(kit, folder, "time", '[time]\nntp = ["10.0.2.3"]\n'))
        network = try_page.ask(box, "GET", "/network")
        if network["kept"].get("address") != f"{outside.INSIDE}/24" or "10.0.2.3" not in str(try_page.ask(box, "GET", "/time")):
            raise Failed(f"the stick changed more than the time, or not that: {network}")
        if box.fingerprint().replace(":", "").lower() != brought:
            raise Failed("the certificate of the first stick is not served any more")

        kit.step("a stick puts it into VLAN 20, another into VLAN 30: at once, each time")
        for vlan in [20, 30]:
            taken(kit, box, settings(kit, folder, f"vlan{vlan}", NETWORK + f"vlan = {vlan}\n"))
            count = on_vlan(kit, box, path, vlan)
        box.passes(5)
        if tags(path)[20] > count[20]:
            raise Failed(f"frames of the box are still in VLAN 20: {dict(tags(path))}")
        print(f"      frames by VLAN: {dict(tags(path))}", flush=True)

        kit.step("and one without a VLAN brings it back to where its page is reached")
        taken(kit, box, settings(kit, folder, "back", NETWORK))
        box.ready(60 * kit.SLACK)
        kit.has_room(box, room)

        kit.step("a stick says who else may measure it, and its telephone number: Palabre starts anew with them, and its rooms are there")
        if box.send("GET", "/metrics", {})[0] == 200:
            raise Failed("anybody may read what is measured")
        since = box.mark()
        taken(kit, box, settings(kit, folder, "program", PROGRAM))
        box.said(r"Page +https://", 60 * kit.SLACK, since)
        box.ready(60 * kit.SLACK)
        status, _, measured = box.send("GET", "/metrics", {})
        if status != 200 or b"palabre_engine_participants " not in measured:
            raise Failed(f"whom the stick names is answered {status} at /metrics")
        kit.sign_in(box)
        kit.has_room(box, room)
        status, told = box.api("POST", "/api/v1/join", {"code": room["code"], "name": "Essai"})
        if status != 200 or told["phone"].get("number") != "+33 1 99 00 00 00":
            raise Failed(f"the number of the stick is not told: {status} {told}")
