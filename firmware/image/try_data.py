"""What becomes of data when the version before comes back and cannot read what the newer one made of them."""

import os
import re
import sqlite3

import try_page
from box import WORK, Box, Failed, fresh, seen, tool

# Of the box's data partition, which is mounted at /var.
DATABASE = "/lib/palabre/program/palabre.db"


def of_the_future(box):
    """Gives the database of a box that is off a schema that no version has yet, as a newer version's migration would."""
    first, _ = box.partition("palabre-var")
    raw = box.disk + ".raw"
    own = os.path.join(box.folder, "palabre.db")
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", seen(box.disk), seen(raw))
    partition = f"{seen(raw)}?offset={first}"

    def debugfs(*commands):
        script = os.path.join(box.folder, "debugfs")
        with open(script, "w") as file:
            file.write("\n".join(commands) + "\n")
        return tool("debugfs", "-w", "-f", seen(script), partition).decode()

    told = debugfs(f"stat {DATABASE}", f"dump {DATABASE} {seen(own)}", f"stat {DATABASE}-wal")
    owner = re.search(r"Mode: +(\d+).*?User: +(\d+) +Group: +(\d+) .*?Size: (\d+)", told, re.S)
    if not owner or os.path.getsize(own) != int(owner.group(4)):
        raise Failed(f"the database cannot be taken from the disk:\n{told}")
    if len(re.findall(r"^Inode:", told, re.M)) != 1:
        raise Failed(f"the program left a journal beside its database when it ended:\n{told}")
    mode, user, group, _ = owner.groups()
    with sqlite3.connect(own) as database:
        database.execute("insert into _sqlx_migrations values (9999, 'future', '2026-01-01', 1, x'00', 0)")
    database.close()
    debugfs(f"rm {DATABASE}", f"write {seen(own)} {DATABASE}", f"sif {DATABASE} mode 010{mode}", f"sif {DATABASE} uid {user}", f"sif {DATABASE} gid {group}")
    tool("e2fsck", "-fn", partition)
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", seen(raw), seen(box.disk))
    os.remove(raw)


def restored(kit, arch="amd64"):
    """Version 2 changes the database to a schema of its own; back on version 1, the data are those of before the update."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "restored"))) as box:
        room = kit.with_proved(box, 2)
        status, later = box.api("POST", "/api/v1/rooms", {"name": "De la version 2"})
        if status not in (200, 201):
            raise Failed(f"the room of version 2 was answered {status}: {later}")
        kit.step("version 1 shall start next; the box is shut down")
        try_page.ask(box, "POST", "/previous")
        try_page.ask(box, "POST", "/shutdown")
        told = box.event("SHUTDOWN", 60 * kit.SLACK)
        if told["reason"] != "guest-shutdown":
            raise Failed(f"the machine did not switch itself off: {told}")
        box.kill()
        kit.step("version 2 had changed the database: version 1 starts with the data of before the update, and says so")
        of_the_future(box)
        since = box.mark()
        box.start()
        box.said(r"Palabre \S+\+1\n", 120 * kit.SLACK, since)
        box.ready(120 * kit.SLACK)
        print("      " + box.said(r"Restored / Restauré +the data from before version 2; [^\n]*schema-9999-1\.db[^\n]*\n", 60 * kit.SLACK, since).group(0).strip())
        kit.sign_in(box)
        kit.has_room(box, room)
        status, names = kit.names_of_rooms(box)
        if status != 200 or "De la version 2" in names:
            raise Failed(f"version 1 has the rooms of version 2: {status} {names}")
        events = try_page.ask(box, "GET", "/history")["events"]
        if ("restored", 2) not in [(event["what"], event["version"]) for event in events]:
            raise Failed(f"the history does not tell of it: {events}")
        kit.step("version 1 proves good with them")
        box.said(r"version 1 is good", 300 * kit.SLACK, since)
