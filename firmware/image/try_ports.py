"""What a box answers to whoever is on its network or has its machine in hand: nothing at a closed port, and no obedience to what
is written into the machine's SMBIOS strings. What passed over the wire is judged, as the emulator records it.
"""

import base64
import collections
import os
import socket
import struct
import time

from box import WORK, Box, Failed, fresh, seen

# Of what Debian's and systemd's programs would listen on, of what belongs to the program itself and to the other protocol, and
# the neighbours of what is open.
CLOSED = {"tcp": [22, 23, 53, 79, 111, 2049, 5059, 5061, 5353, 5355, 7880, 8080, 9090, 16384, 19531],
          "udp": [53, 111, 123, 161, 443, 5059, 5061, 5353, 5355, 7879, 7881, 16383, 24384]}
OPEN = {("tcp", 80), ("tcp", 443), ("tcp", 5060), ("udp", 5060)}
# The box, and everybody outside, as the emulator's network names them.
INSIDE, OUTSIDE = socket.inet_aton("10.0.2.15"), socket.inet_aton("10.0.2.2")
OPTIONS = (b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5999;branch=z9hG4bKports\r\nMax-Forwards: 70\r\n"
           b"From: <sip:test@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: ports\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
TAKEN = "TEST: taken from SMBIOS"
# What systemd would make of it, were it to take credentials: a drop-in of a unit.
STRING = ("io.systemd.credential.binary:systemd.unit-dropin.palabre-console.service="
          + base64.b64encode(f"[Service]\nExecStartPre=/bin/sh -c 'echo {TAKEN} >/dev/console'\n".encode()).decode())


# And what its EFI stub would add to the kernel's command line.
MORE_WORDS = "io.systemd.stub.kernel-cmdline-extra=systemd.import_credentials=yes"


def frames(path):
    """Of a recording of the emulator (pcap, in the order of bytes of this machine); a frame that is being written is left out."""
    with open(path, "rb") as file:
        content = file.read()
    if struct.unpack_from("=I", content) != (0xa1b2c3d4,):
        raise Failed(f"{path} is no recording")
    at = 24
    while at + 16 <= len(content):
        (length,) = struct.unpack_from("=8xI4x", content, at)
        frame = content[at + 16:at + 16 + length]
        at += 16 + length
        if len(frame) == length:
            yield frame


def asked_and_answered(path):
    """How often each port of the box was asked, and how often it answered: with anything, a refusal too."""
    asked, answered = collections.Counter(), collections.Counter()
    for frame in frames(path):
        if frame[12:14] != b"\x08\x00" or len(frame) < 34:
            continue
        packet = frame[14:]
        kind, of, to, inner = packet[9], packet[12:16], packet[16:20], packet[(packet[0] & 15) * 4:]
        if kind in (6, 17) and len(inner) >= 4:
            name, (source, destination) = {6: "tcp", 17: "udp"}[kind], struct.unpack_from(">HH", inner)
            if (of, to) == (OUTSIDE, INSIDE):
                asked[name, destination] += 1
            if (of, to) == (INSIDE, OUTSIDE):
                answered[name, source] += 1
        # Destination unreachable (RFC 792), which quotes what it is about.
        elif kind == 1 and (of, to) == (INSIDE, OUTSIDE) and inner[:1] == b"\3" and len(inner) >= 32:
            quoted = inner[8:]
            (port,) = struct.unpack_from(">2xH", quoted, (quoted[0] & 15) * 4)
            answered[{6: "tcp", 17: "udp"}.get(quoted[9], "other"), port] += 1
    return asked, answered


def ask(name, port):
    """Something that an open port answers. A connection, to be kept until it is judged."""
    if name == "tcp":
        # The emulator takes it before it asks the box: whether the box answers, the recording tells.
        return socket.create_connection(("127.0.0.1", port), timeout=30)
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.sendto(OPTIONS, ("127.0.0.1", port))
    return line


def until(box, path, what, holds, within):
    deadline = time.monotonic() + within
    while not holds(*asked_and_answered(path)):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within} s")
        box.passes(0.2)


def ports(kit, arch="amd64"):
    """Closed ports are silent, open ones answer, and strings of the machine are no settings."""
    folder = fresh(os.path.join(WORK, "test", "ports"))
    path = os.path.join(folder, "net.pcap")
    closed = [(name, port) for name, of in CLOSED.items() for port in of]
    forwards = " ".join(f"{name}:{port}" for name, port in closed)
    machine = ["-object", f"filter-dump,id=recording,netdev=net,file={seen(path)}", "-smbios", f"type=11,value={STRING}"]
    with Box(arch, kit.out(arch, 1), folder, options=["--forward", forwards], machine=machine) as box:
        kit.step("version 1 starts, in a machine whose SMBIOS strings want to be settings: they are not taken")
        box.start()
        box.ready(120 * kit.SLACK)
        box.said(r"Claim code / Code +(\S+)\s", 60 * kit.SLACK)
        if box.seen(TAKEN):
            raise Failed("the box took its settings from an SMBIOS string")

        kit.step(f"{len(closed)} closed ports are asked, then the open ones")
        lines = [ask(*which) for which in closed]
        until(box, path, "the closed ports are asked", lambda asked, _: all(asked[which] for which in closed), 30 * kit.SLACK)
        _, before = asked_and_answered(path)
        # The box takes what comes in its order: when it answers these, it has judged those.
        lines += [ask(*which) for which in sorted(OPEN)]
        until(box, path, "the open ports answer", lambda _, answered: all(answered[w] > before[w] for w in OPEN), 30 * kit.SLACK)
        asked, answered = asked_and_answered(path)
        for line in lines:
            line.close()
        wrong = [which for which in closed if answered[which]]
        if wrong:
            raise Failed(f"closed ports answered: {wrong}")
        print(f"      of {sum(1 for which in closed if asked[which])} closed ports none answered;"
              f" open: {', '.join(f'{name} {port}' for name, port in sorted(OPEN))}", flush=True)

        kit.step("strings that add words to the kernel's command line: it does not start with them, and starts without")
        box.kill()
        box.gone(30)
        since = box.mark()
        box.start("-smbios", f"type=11,value={MORE_WORDS}")
        print("      " + box.said(r"FAILED: the kernel command line is not the one that was signed[^\n]*\n", 90 * kit.SLACK, since).group(0).strip(), flush=True)
        box.kill()
        box.gone(30)
        box.start()
        box.ready(120 * kit.SLACK)
