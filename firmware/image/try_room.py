"""What `fw test --full` does to a box with a screen: it starts to the page, and the screen is looked at; and the browser of
its root meets a page that tries what it may, at the speed of this machine.

Pictures of the screen are kept in the folders test/room and test/room-arm64 of the work folder, for people to look at too.
Chromium is slow in emulation, so that waits are long; each ends with what it waits for.
"""

import http.server
import os
import queue
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import try_stick
from box import FIRMWARE, WORK, Box, Failed, fresh, seen
from picture import Picture

# What a person sees, as the sheets of style say it: the button of the meetings page, the links of the start page, and the
# paper that all pages share.
BUTTON, LINK, PAPER = ((0x1f, 0x3f, 0xbf), (0x17, 0x2f, 0x91), (0xf6, 0xf5, 0xf1))
# Of the 921 600 of a screen. The smallest button has more than the first; letters are antialiased, and have few of theirs.
BUTTON_PIXELS, LINK_PIXELS = 2_000, 50
# What a stick says of where others come from, which leads this screen nowhere.
ELSEWHERE = '[http]\npublic_url = "https://meet.example.org"\n[media]\nannounced = ["203.0.113.1:7880"]\n'
# A speakerphone and, for its microphone, a sound card on the board: QEMU's USB card only plays.
SOUND = ["-audiodev", "none,id=sound", "-device", "usb-audio,audiodev=sound,bus=xhci.0",
         "-device", "intel-hda", "-device", "hda-duplex,audiodev=sound"]
SCREEN = {arch: ["-device", f"{card},xres=1280,yres=720", "-device", "usb-kbd,bus=xhci.0", "-device", "usb-tablet,bus=xhci.0"]
          for arch, card in {"amd64": "virtio-vga", "arm64": "virtio-gpu-pci"}.items()}
MEMORY = 3072


def shown(box, name, is_there, within):
    """Waits until the screen shows what `is_there` tells of a picture, and keeps that one. Seconds since power on."""
    kept = os.path.join(box.folder, name + ".png")
    deadline = time.monotonic() + within
    last = None
    while True:
        picture = Picture(box)
        if is_there(picture):
            at = time.monotonic() - box.started
            # Once more after whatever is still being drawn.
            box.passes(5)
            Picture(box).keep(kept)
            print(f"      {kept}", flush=True)
            return at
        if picture.pixels != last:
            picture.keep(kept)
            last = picture.pixels
        if time.monotonic() > deadline:
            raise Failed(f"the screen does not show {name} within {within} s; it shows {kept}")
        box.passes(1)


def is_claim(picture):
    """The start page of a new box: the only page of it with links and without a button."""
    colours = picture.colours
    return colours[PAPER] > colours.total() / 2 and colours[LINK] > LINK_PIXELS and colours[BUTTON] == 0


def is_meetings(picture):
    return picture.colours[BUTTON] > BUTTON_PIXELS


def outside():
    """Somebody else on the network of the box: takes connections and says nothing. Its port on loopback, as the box
    reaches it at 10.0.2.2."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            listener.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def room(kit, arch):
    """A new box shows how to claim it, then the meetings page, to a browser that reaches nothing but the box."""
    name = f"{arch}-room-1"
    image = os.path.join(WORK, "try", name, f"palabre-{name}.img")
    kit.note("room: disk image, compressed", os.path.getsize(image + ".zst") / 2**20, "MiB", 480)
    kit.note("room: update bundle", os.path.getsize(image.removesuffix(".img") + ".plbu") / 2**20, "MiB", 500)
    port = outside()
    with Box(arch, image, fresh(os.path.join(WORK, "test", kit.scenario)), mem=MEMORY) as box:
        kit.step("a box with a screen starts")
        # What the report of the image's test overlay connects to.
        box.start(*SCREEN[arch], *SOUND, "-fw_cfg", f"name=opt/palabre/outside,string={port}")
        kit.note("room: power on to /readyz", box.ready(120 * kit.SLACK), "s")
        code = box.said(r"Claim code / Code +(\S+)\s", 60 * kit.SLACK).group(1)
        kit.note("room: power on to how to claim it on the screen", shown(box, "claim", is_claim, 300 * kit.SLACK), "s", 90)
        kit.step("claimed from elsewhere: the screen goes on to the meetings page")
        made = kit.claim_and_make_a_room(box)
        claimed = time.monotonic()
        kit.note("room: claim to the meetings page on the screen",
                 box.started + shown(box, "meetings", is_meetings, 300 * kit.SLACK) - claimed, "s")
        kit.note("room: memory in use with the page shown", box.memory_used(), "MiB", 700)

        kit.step("what the screen's user can reach")
        wanted = {
            "loudspeaker": r"alsa_output\.usb-\S+",
            "microphone": r"alsa_input\.\S+",
            "power of the speakerphone": r"on",
            "socket buffers": r"8388608",
            "governor": r"performance",
            "data of the program": r"closed",
            "network from the system": r"open",
            "network from the screen": r"closed",
            "page from the screen": r"open",
            "user namespaces of the browser": r"[2-9]\d*|1\d+",
        }
        for what, pattern in wanted.items():
            found = box.said(rf"room: {what}: (.*)\n", 120 * kit.SLACK).group(1).strip()
            print(f"      {what}: {found}", flush=True)
            box.said(rf"room: {what}: ({pattern})\n", 0)
        if code in box.text[box.said(r"Claimed", 0).end():]:
            raise Failed("the claim code is shown after the claim")
        # Minutes in emulation, and nothing of it depends on the processor.
        if arch != "amd64":
            return

        kit.step("a stick names another address for everybody else: the screen starts with the meetings page all the same")
        try_stick.taken(kit, box, try_stick.settings(kit, box.folder, "elsewhere", ELSEWHERE))
        box.qmp("system_reset")
        box.gone(30 * kit.SLACK)
        box.ready(120 * kit.SLACK)
        started = time.monotonic()
        kit.note("room: from /readyz to the meetings page on the screen, told of another address",
                 box.started + shown(box, "elsewhere", is_meetings, 300 * kit.SLACK) - started, "s")
        led = box.redirect("/")
        if led != (308, "https://meet.example.org/"):
            raise Failed(f"what the stick says is not in force: others are led to {led}")

        kit.step("version 2 comes by stick, starts on trial behind its screen, is blessed; the meetings page is back")
        since = kit.update(box, 2, flavour="room")
        box.said(r"Palabre \S+\+2\n", 120 * kit.SLACK, since)
        kit.note("room: restart to /readyz of version 2", box.ready(120 * kit.SLACK), "s")
        box.said(r"version 2 is good", 120 * kit.SLACK, since)
        kit.has_room(box, made)
        shown(box, "updated", is_meetings, 300 * kit.SLACK)


# Tries what a page may do in this browser, and tells each outcome to who served it.
CURIOUS = b"""<!doctype html><meta charset="utf-8"><title>Curious</title><script>
const tell = (what, how) => fetch('/told?' + encodeURIComponent(what + ': ' + how));
const told = (what, promise) => promise.then((found) => tell(what, found), (error) => tell(what, error.name ?? error.code));
const media = navigator.mediaDevices;
Promise.all([
  tell('secure', isSecureContext), tell('languages', navigator.languages),
  told('devices', media.getUserMedia({ audio: true, video: true }).then((stream) => stream.getTracks().map((t) => t.kind).sort())),
  told('screen', media.getDisplayMedia()), told('place', new Promise((y, n) => navigator.geolocation.getCurrentPosition(y, n))),
  told('notices', Notification.requestPermission()), tell('window', String(open('/window'))),
]).then(() => { location = 'http://127.0.0.1/elsewhere'; });
</script>"""
ALLOWED = {
    "secure": "true",
    "languages": "fr,en",
    "devices": "audio,video",
    "screen": "NotAllowedError",
    "place": "1",
    "notices": "denied",
    "window": "null",
}


class Pages:
    """Stands in for the program: /readyz and redirections by plain HTTP, the page by HTTPS, as a box has them."""

    def __init__(self, folder):
        self.requests, self.is_ready, self.servers = queue.Queue(), True, []
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                is_plain = not isinstance(self.connection, ssl.SSLSocket)
                if self.path == "/readyz":
                    return self.give(200 if pages.is_ready else 503)
                pages.requests.put((self.headers["Host"], self.path))
                if is_plain and self.headers["Host"] == "localhost":
                    return self.give(308, Location="https://localhost" + self.path)
                self.give(200, CURIOUS if self.path == "/" else b"")

            def give(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in {"Content-Type": "text/html", "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem"))
        for port in [80, 443]:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
            if port == 443:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            self.servers.append(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self):
        """Frees the ports for the boxes of other scenarios."""
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def asked(self, wanted, within):
        """Waits for a request of this host and path; those before it."""
        before, deadline = [], time.monotonic() + within
        while True:
            try:
                request = self.requests.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"the browser did not ask for {wanted} within {within} s, but for {before}") from None
            if request == wanted:
                return before
            before.append(request)


def own_certificate(folder):
    """A certificate that nobody vouches for, for another name, and its key; the pin of it, where the browser finds it."""
    tool = [os.path.join(FIRMWARE, "image", "tool.sh"), "sh", "-euc"]
    place = seen(folder)
    subprocess.run(tool + [f"""
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {place}/key.pem \
          -out {place}/certificate.pem -subj /CN=palabre-0001 -days 2 2>/dev/null
        mkdir -p {place}/run/palabre
        openssl x509 -in {place}/certificate.pem -pubkey -noout | openssl pkey -pubin -outform der |
          openssl dgst -sha256 -binary | base64 >{place}/run/palabre/pin"""], check=True)


def browser(kit):
    """Camera and microphone without a question for the box's own page, which nobody leaves; the start page while the
    program is away. No emulation: the browser of the room's root, run here."""
    folder = fresh(os.path.join(WORK, "test", "browser"))
    own_certificate(folder)
    pages = Pages(folder)
    command = [os.path.join(FIRMWARE, "image", "screen.sh"), folder]
    with open(os.path.join(folder, "log"), "wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            kit.step("the browser of the room's root opens the page, by https, trusting the box's own certificate")
            pages.asked(("localhost", "/"), 30 * kit.SLACK)
            pages.asked(("localhost", "/"), 10 * kit.SLACK)
            found, deadline = {}, time.monotonic() + 10 * kit.SLACK
            while found.keys() != ALLOWED.keys():
                _, path = pages.requests.get(timeout=max(0.01, deadline - time.monotonic()))
                if path.startswith("/told?"):
                    what, _, how = urllib.parse.unquote(path[6:]).partition(": ")
                    found[what] = how
            for what, how in found.items():
                print(f"      {what}: {how}", flush=True)
                if not re.fullmatch(ALLOWED[what], how):
                    raise Failed(f"the page found for {what}: {how}")
            kit.step("the program goes: the browser begins again with the start page; the program is back: so is the page")
            profile = os.path.join(folder, "run/palabre-room/home/profile")
            # By what is in it: a new folder may well get the number of the one that was deleted.
            old = os.path.join(profile, "old")
            open(old, "w").close()
            pages.is_ready = False
            began = time.monotonic()
            deadline = began + 30 * kit.SLACK
            while os.path.exists(old) or not os.path.exists(profile):
                if time.monotonic() > deadline:
                    raise Failed("the browser stays on the page of a program that is gone")
                time.sleep(0.2)
            kit.note("room: program gone to start page", time.monotonic() - began, "s")
            pages.is_ready = True
            before = pages.asked(("localhost", "/"), 30 * kit.SLACK)
            if any(host != "localhost" for host, _ in before):
                raise Failed(f"the browser left its page: {before}")
        except queue.Empty:
            raise Failed(f"the page told only {found}") from None
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            pages.close()
            shutil.rmtree(os.path.join(folder, "tree"))
