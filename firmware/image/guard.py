"""What guards a box, put to the test: firmware that enforces Secure Boot, and a TPM that holds the key of /var.

One box is led through its life: enrolled, encrypted, offered a kernel image of strangers twice, updated, its disk moved to another
box, opened there with the recovery key, moved once more, reset. `t` is try.py, with its steps and figures.
"""

import os

from box import WORK, Box, Failed, fresh, seen, tool

PROMPT = r"Recovery key / Clé de secours"
CLOSED = r"do not open|does not open them"


def machine(t, chip):
    """The options of a box that enforces Secure Boot and has this TPM."""
    return ["--secure-boot", "on", "--tpm", os.path.join(WORK, "test", "guard", chip)]


def protected(t, box, since):
    """Waits for the lines of the console; the recovery key, when it shows one."""
    box.said(r"Secure Boot +on / activé", 60 * t.SLACK, since)
    box.said(r"Data / Données +encrypted", 30 * t.SLACK, since)


def opens_without_a_word(t, box, since):
    box.ready(60 * t.SLACK)
    if box.seen(CLOSED, since):
        raise Failed("the TPM did not open /var")
    protected(t, box, since)


def put_on_esp(disk, file, name):
    """Writes a file among the kernel images of a disk."""
    part = disk + ".esp"
    tool("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "skip=1", "count=301", f"if={seen(disk)}", f"of={seen(part)}")
    with open(part, "r+b") as raw:
        raw.truncate(300 << 20)
    tool("mcopy", "-o", "-i", seen(part), seen(file), f"::EFI/Linux/{name}")
    tool("qemu-io", "-f", "qcow2", "-c", f"write -q -s {seen(part)} 1M 300M", seen(disk))


def has(box, room):
    status, rooms = box.api("GET", "/api/v1/rooms")
    if status != 200 or room["id"] not in str(rooms):
        raise Failed(f"the room is gone: {status} {rooms}")


def guarded(t, arch="amd64"):
    folder = fresh(os.path.join(WORK, "test", "guard"))
    with Box(arch, t.out(arch, 1), folder, options=machine(t, "first")) as box:
        t.step("Secure Boot and TPM: firmware in setup mode takes the certificate, then enforces; /var is encrypted")
        box.start()
        box.said(r"(?i)enroll", 60 * t.SLACK)
        t.note("with keys to enroll and /var to encrypt: power on to /readyz", box.ready(90 * t.SLACK), "s")
        protected(t, box, 0)
        key = box.said(r"Recovery / Secours +([a-z]{8}(?:-[a-z]{8}){7})\s", 30 * t.SLACK).group(1)
        room = t.claim_and_make_a_room(box)

        t.step("version 4, a good bundle whose kernel image strangers have signed for Secure Boot: refused before it is written")
        since = box.mark()
        box.plug(t.stick("v4.img", palabre_plbu=t.out(arch, 4, f"palabre-{arch}-core-4.plbu")))
        print("      " + box.said(r"Update (refused: .*Secure Boot.*|installed.*|refused.*)", 120 * t.SLACK, since).group(0).strip())
        if not box.seen(r"Update refused: .*Secure Boot of this box would not start", since):
            raise Failed("not refused for its signature")
        box.pull()

        t.step("the same kernel image, put on the disk by hand: the firmware refuses it, and what is left starts once its tries are used up")
        box.kill()
        put_on_esp(box.disk, t.out(arch, 4, "uki.efi"), "palabre_4+3-0.efi")
        since = box.mark()
        box.start()
        refusal = box.said(r"(?i)error loading [^\n]*(security violation|access denied)", 120 * t.SLACK, since)
        print("      " + refusal.group(0).strip())
        # Two tries a start: this firmware then waits in its menu, until somebody switches the box off and on.
        box.said(r"No bootable option", 120 * t.SLACK, since)
        box.qmp("system_reset")
        box.said(r"Palabre \S+\+1\n", 240 * t.SLACK, since)
        opens_without_a_word(t, box, since)
        if box.seen(r"Palabre \S+\+4\n", since):
            raise Failed("version 4 has started")
        if box.seen(r"Recovery / Secours +[a-z]{8}-", since):
            raise Failed("the recovery key was shown twice")

        t.step("version 2: another kernel image of ours opens /var, and what is in it is still there")
        since = t.update(box, 2, None)
        box.said(r"Palabre \S+\+2\n", 120 * t.SLACK, since)
        opens_without_a_word(t, box, since)
        box.said(r"version 2 is good", 120 * t.SLACK, since)
        has(box, room)
        box.kill()

    with Box(arch, t.out(arch, 1), folder, options=machine(t, "second")) as other:
        other.cookies, other.opener = box.cookies, box.opener
        t.step("its disk in another box: /var stays closed, the console says so; a wrong key does not open it, the recovery key does")
        other.start()
        other.said(CLOSED, 60 * t.SLACK)
        other.said(PROMPT, 30 * t.SLACK)
        since = other.mark()
        other.type(key[:-1] + ("c" if key[-1] != "c" else "b"))
        other.said(r"That key does not open", 30 * t.SLACK, since)
        other.said(PROMPT, 30 * t.SLACK, since)
        # As people type it.
        other.type(key.upper().replace("-", " "))
        other.ready(60 * t.SLACK)
        protected(t, other, since)
        has(other, room)

        t.step("from then on the other box opens it by itself")
        since = other.mark()
        other.qmp("system_reset")
        other.gone(30 * t.SLACK)
        opens_without_a_word(t, other, since)
        has(other, room)
        other.kill()

    with Box(arch, t.out(arch, 1), folder, options=machine(t, "third")) as third:
        t.step("in a third box, where nobody types anything: it starts again, and again")
        third.start()
        third.said(CLOSED, 60 * t.SLACK)
        since = third.mark()
        since += third.said(r"Starting again", 120 + 30 * t.SLACK, since).end()
        third.said(CLOSED, 60 * t.SLACK, since)
        t.step("`reset`, typed twice, begins anew with empty data, encrypted for the third box")
        third.said(PROMPT, 30 * t.SLACK, since)
        third.type("reset")
        third.said(r"Type reset once more", 30 * t.SLACK, since)
        since = third.mark()
        third.type("reset")
        third.said(r"Starting anew with empty data", 30 * t.SLACK, since)
        third.gone(30 * t.SLACK)
        third.ready(90 * t.SLACK)
        protected(t, third, since)
        fresh_key = third.said(r"Recovery / Secours +([a-z]{8}(?:-[a-z]{8}){7})\s", 30 * t.SLACK, since).group(1)
        if fresh_key == key:
            raise Failed("the recovery key is the old one")
        third.said(r"Claim code / Code +\S+", 30 * t.SLACK, since)
