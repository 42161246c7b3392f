"""The box as its administrator uses it from the page: everything here goes through /api/v1/appliance. `kit` is kit.py."""

import contextlib
import datetime
import http.client
import io
import json
import os
import tarfile
import time

import outside
from box import WORK, Box, Failed, fresh

API = "/api/v1/appliance"
TUS = {"Tus-Resumable": "1.0.0"}
# How long rooms are empty before such a restart (`appliance.empty_before_restart`), in seconds.
EMPTY_FOR = 60
# What an installation does before it has ended.
UNDER_WAY = ("verifying", "writing")
# Without summer time, and without a database of zones where the test runs.
TOKYO = datetime.timezone(datetime.timedelta(hours=9))
# As the page sends them.
SLICE = 8 << 20


def ask(box, method, path, body=None, expected=(200, 202, 204)):
    status, answer = box.api(method, API + path, body)
    if status not in expected:
        raise Failed(f"{method} {path} was answered {status}: {answer}")
    return answer


def upload(box, path):
    """Sends a file as tus clients do, and goes on where the box says it is after a slice that was cut short. Its id."""
    with open(path, "rb") as file:
        content = file.read()
    status, headers, answer = box.send("POST", API + "/uploads", {**TUS, "Upload-Length": str(len(content))}, b"")
    if status != 201:
        raise Failed(f"the upload was answered {status}: {answer}")
    place, offset, cut, retries = headers["Location"].removeprefix(box.page), 0, False, 5
    while offset < len(content):
        head = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        piece = content[offset:offset + SLICE]
        if not cut and offset > len(content) // 2:
            cut = True
            # Says that more comes than comes: what a line that breaks looks like.
            box.broken("PATCH", place, {**head, "Content-Length": str(len(piece))}, piece[:SLICE // 3])
            _, headers, _ = box.send("HEAD", place, TUS)
            went_on = int(headers["Upload-Offset"])
            # What the box had not kept yet when the line broke may be lost, and no more.
            if not offset < went_on <= offset + SLICE // 3:
                raise Failed(f"after a cut slice the upload is at {went_on}, not between {offset} and {offset + SLICE // 3}")
            print(f"      cut at {offset + SLICE // 3}, goes on at {went_on}", flush=True)
            offset = went_on
            continue
        try:
            status, headers, answer = box.send("PATCH", place, head, piece)
        except OSError:
            # Refused before all of it was sent.
            status = 423
        if status in (409, 423) and retries:
            # What came of the cut slice was still being kept: clients of this protocol ask again where they are.
            retries -= 1
            _, headers, _ = box.send("HEAD", place, TUS)
        elif status != 204:
            raise Failed(f"a slice at {offset} was answered {status}: {answer}")
        offset = int(headers["Upload-Offset"])
    return place.rsplit("/", 1)[1]


def installed(box, upload_id, within, meanwhile=lambda: None):
    """Installs an upload, while something else happens; how it ended and what it took."""
    began = time.monotonic()
    ask(box, "POST", "/install", {"upload": upload_id})
    meanwhile()
    while (progress := ask(box, "GET", "/install"))["phase"] in UNDER_WAY:
        if time.monotonic() > began + within:
            raise Failed(f"the installation does not end: {progress}")
        with box.news:
            box.news.wait(0.2)
    return progress, time.monotonic() - began


def slots(box):
    return [(slot["slot"], slot["version"], slot["state"]) for slot in ask(box, "GET", "")["slots"]]


def until(box, what, holds, within):
    """Asks the box until `holds` says so of its state."""
    deadline = time.monotonic() + within
    while True:
        try:
            status, state = box.api("GET", API)
            if status == 200 and holds(state):
                return state
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within} s")
        with box.news:
            box.news.wait(1)


def waits_still(kit, box):
    """Waits until the restart that is planned begins; for how long it was still seen to be planned."""
    began = seen = time.monotonic()
    # By its plan: a box that is slow to answer is not one that restarts.
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            status, plan = box.api("GET", API + "/restart")
            if status != 200 or plan.get("restart") is None:
                break
            seen = time.monotonic()
            if seen > began + 2 * EMPTY_FOR * kit.SLACK:
                raise Failed(f"the restart does not come within {seen - began:.0f} s of an empty room")
            box.passes(1)
    return seen - began


def asked(kit, arch="amd64"):
    """An update by upload, a restart that waits for people to leave, the way back."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "asked"))) as box:
        kit.step("version 1 starts and is claimed; its state")
        box.start()
        box.ready(120 * kit.SLACK)
        status, _ = box.api("GET", API)
        if status != 401:
            raise Failed(f"whoever asks is answered {status}, not 401")
        room = kit.claim_and_make_a_room(box)
        state = ask(box, "GET", "")
        if state["runs"]["version"] != 1 or state["on_trial"] or not state["runs"]["development"]:
            raise Failed(f"another state than that of a new box: {state}")
        before = slots(box)
        print(f"      {state['host']}: {before}", flush=True)

        kit.step("an upload with one bit changed is refused, and nothing is written")
        bundle = kit.out(arch, 2, f"palabre-{arch}-core-2.plbu")
        progress, _ = installed(box, upload(box, kit.tampered(bundle)), 120 * kit.SLACK)
        if progress["phase"] != "refused" or slots(box) != before:
            raise Failed(f"not refused, or not without a trace: {progress} {slots(box)}")
        print(f"      {progress['refused']['code']}: {progress['refused']['detail']}", flush=True)

        kit.step("version 2 is uploaded, in slices and with a cut, and installed; a call begins meanwhile")
        began = time.monotonic()
        identity = upload(box, bundle)
        kit.note("upload of a bundle", time.monotonic() - began, "s")

        def call():
            begins = ask(box, "GET", "/install")["phase"]
            if begins not in UNDER_WAY:
                raise Failed(f"there was no installation any more when the call began: {begins}")
            heard = outside.call(box, room, 15 * kit.SLACK)
            print(f"      {begins} when the call began, {ask(box, 'GET', '/install')['phase']} when it had ended: {json.dumps(heard)}", flush=True)

        progress, took = installed(box, identity, 120 * kit.SLACK, call)
        if progress["phase"] != "done":
            raise Failed(f"the update was refused: {progress}")
        kit.note("install of version 2, by the API", took, "s", 40)

        kit.step("a restart once the rooms are empty is asked for: it does not come while a guest is in one, nor within the minute after")
        since = box.mark()
        guest = outside.in_room(box, room, "Reste")
        ask(box, "PUT", "/restart", {"when": "idle"})
        for seconds in (0, 15):
            # Of the half minute that such a guest has.
            box.passes(seconds)
            state = ask(box, "GET", "")
            plan = state.get("restart") or {}
            if state["participants"] < 1 or plan.get("when") != "idle" or state["runs"]["version"] != 1:
                raise Failed(f"no restart waits for the guest: {state['participants']} in rooms, {plan}, runs {state['runs']}")
        guest.close()
        waited = waits_still(kit, box)
        # Had it counted from when it was asked for, it would have been 15 s less, and at most the 5 s between two looks more.
        if waited < EMPTY_FOR - 5:
            raise Failed(f"the restart waits {waited:.1f} s once the guest has left, not {EMPTY_FOR}")
        print(f"      {waited:.1f} s after the guest had left it still waits", flush=True)
        kit.step("version 2 starts, and proves good")
        box.said(r"Palabre \S+\+2\n", (60 + 120) * kit.SLACK, since)
        until(box, "version 2 proves good", lambda state: state["runs"]["version"] == 2 and not state["on_trial"], 180 * kit.SLACK)
        kit.has_room(box, room)
        events = ask(box, "GET", "/history")["events"]
        print(f"      {[(event['what'], event['version']) for event in events]}", flush=True)

        kit.step("back to version 1, in a window that opens two to three minutes from now, by the clock of Tokyo")
        since = box.mark()
        ask(box, "POST", "/previous")
        ask(box, "PUT", "/time", {"ntp": [], "zone": "Asia/Tokyo"})
        asked_at = time.monotonic()
        there = datetime.datetime.fromisoformat(ask(box, "GET", "/time")["now"]).astimezone(TOKYO)
        opens = there.replace(second=0, microsecond=0) + datetime.timedelta(minutes=3)
        closes = opens + datetime.timedelta(hours=2)
        ask(box, "PUT", "/restart", {"when": "window", "from": f"{opens:%H:%M}", "to": f"{closes:%H:%M}"})
        before = time.monotonic() - asked_at
        waited, wanted = before + waits_still(kit, box), (opens - there).total_seconds()
        # Rooms that are empty would have done after one minute.
        if waited < wanted - 5:
            raise Failed(f"the restart waits {waited:.1f} s, its window opens after {wanted:.0f}")
        print(f"      the window opens {wanted:.0f} s later; after {waited:.1f} s the restart still waited", flush=True)
        box.said(r"Palabre \S+\+1\n", 120 * kit.SLACK, since)
        until(box, "version 1 runs again", lambda state: state["runs"]["version"] == 1 and not state["on_trial"], 180 * kit.SLACK)
        kit.has_room(box, room)


def settings(kit, arch="amd64"):
    """Network, time, certificate, storage, support bundle, factory reset, shutdown."""
    with Box(arch, kit.out(arch, 1), fresh(os.path.join(WORK, "test", "settings"))) as box:
        kit.step("version 1 starts and is claimed")
        box.start()
        box.ready(120 * kit.SLACK)
        code = box.said(r"Claim code / Code +(\S+)\s", 60 * kit.SLACK).group(1)
        room = kit.claim_and_make_a_room(box)
        state = ask(box, "GET", "")
        kit.step("a network that nobody can reach goes back by itself")
        began = time.monotonic()
        try:
            ask(box, "PUT", "/network", {"dhcp": False, "address": "192.0.2.7/24", "gateway": "192.0.2.1"})
        except OSError:
            # In force before the answer got out.
            print("      no answer to that came through", flush=True)
        box.gone(15 * kit.SLACK)
        until(box, "the network comes back", lambda state: True, 180 * kit.SLACK)
        kit.note("a wrong network goes back after", time.monotonic() - began, "s", 150)
        if ask(box, "GET", "/network")["kept"].get("address"):
            raise Failed("the wrong network was kept")

        kit.step("one that somebody came through and confirmed stays")
        fixed = {"dhcp": False, "address": f"{outside.INSIDE}/24", "gateway": "10.0.2.2"}
        ask(box, "PUT", "/network", fixed)
        until(box, "the fixed address answers", lambda state: True, 60 * kit.SLACK)
        if ask(box, "GET", "/network").get("tried") is None:
            raise Failed("the fixed address is not tried")
        ask(box, "POST", "/network/confirm")
        network = ask(box, "GET", "/network")
        if network.get("tried") is not None or network["kept"].get("address") != fixed["address"]:
            raise Failed(f"the fixed address was not kept: {network}")

        kit.step("time, certificate, storage; the support bundle names nobody")
        ask(box, "PUT", "/time", {"ntp": ["192.0.2.123"], "zone": "Europe/Paris"})
        ask(box, "GET", "/time")
        served = box.fingerprint()
        ask(box, "POST", "/certificate/self-signed")
        deadline = time.monotonic() + 60 * kit.SLACK
        while box.fingerprint() == served:
            if time.monotonic() > deadline:
                raise Failed("the old certificate is still served")
            with box.news:
                box.news.wait(0.5)
        print(f"      {ask(box, 'GET', '/storage')}", flush=True)
        status, _, answer = box.send("GET", API + "/support", {})
        if status != 200:
            raise Failed(f"the support bundle was answered {status}: {answer[:300]}")
        names, journal = [], b""
        with tarfile.open(fileobj=io.BytesIO(answer)) as bundle_of_support:
            for member in bundle_of_support:
                names.append(member.name)
                text = bundle_of_support.extractfile(member).read() if member.isfile() else b""
                if member.name.endswith("journal.txt"):
                    journal = text
                if b"real-time priority" in text:
                    raise Failed(f"{member.name} of the support bundle says that threads run without it")
                for secret in [code, kit.PASSWORD, room["name"], room["code"], outside.INSIDE]:
                    if secret.encode() in text:
                        raise Failed(f"{member.name} of the support bundle holds {secret!r}")
        print(f"      {len(answer)} bytes: {', '.join(names)}", flush=True)
        # Of the program itself: what is not in there says nothing. What follows "claim:" is taken for a secret.
        if b" box has its administrator" not in journal:
            raise Failed("the journal of the support bundle has not what the program said")

        kit.step("factory reset: another name is refused; the box comes back new")
        ask(box, "POST", "/factory-reset", {"host": "another"}, expected=(422,))
        since = box.mark()
        ask(box, "POST", "/factory-reset", {"host": state["host"]})
        new = box.said(r"Claim code / Code +(\S+)\s", 240 * kit.SLACK, since).group(1)
        if new == code:
            raise Failed("the claim code is the old one")
        box.ready(15 * kit.SLACK)
        kit.claim_and_make_a_room(box, new)
        kit.step("it is shut down, and stays off")
        ask(box, "POST", "/shutdown")
        told = box.event("SHUTDOWN", 60 * kit.SLACK)
        if told["reason"] != "guest-shutdown":
            raise Failed(f"the machine did not switch itself off: {told}")
