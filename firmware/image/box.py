"""One emulated box, for tests: starts it, reads its serial line, speaks to its ports and to the emulator.

Waits for events with a deadline, never for a time to pass. Standard library only.
"""

import codecs
import contextlib
import hashlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

FIRMWARE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.environ.get("PALABRE_FIRMWARE_WORK", os.path.join(FIRMWARE, ".work"))
ESCAPES = re.compile(r"\x1b\[[0-9;=?!]*[a-zA-Z]|\r")
BEGUN = re.compile(r"(\x1b(\[[0-9;=?!]*)?)?$")


def seen(path):
    """The name that the emulator knows a file of the work folder by."""
    return "/w" + path[len(WORK):]


class Failed(Exception):
    """What was promised did not happen."""


def unverified():
    """A new box has signed its certificate itself: `fingerprint` is how one knows it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Box:
    def __init__(self, arch, image, folder, mem=512, options=(), machine=()):
        """`options` are emulate.sh's, `machine` the emulator's own."""
        self.arch, self.image, self.folder, self.mem = arch, image, folder, mem
        self.options, self.machine = list(options), list(machine)
        self.page, self.plain = "https://127.0.0.1", "http://127.0.0.1"
        self.disk, self.vars, self.qmp_path = (os.path.join(folder, name) for name in ["disk.qcow2", "vars.fd", "qmp"])
        self.text, self.news = "", threading.Condition()
        self.process = None
        self.cookies = urllib.request.HTTPCookieProcessor()
        self.opener = urllib.request.build_opener(self.cookies, urllib.request.HTTPSHandler(context=unverified()))
        os.makedirs(folder, exist_ok=True)

    def start(self, *more):
        """Power on, with more words for the emulator. Times count from here."""
        if os.path.exists(self.qmp_path):
            os.remove(self.qmp_path)
        command = [os.path.join(FIRMWARE, "image", "emulate.sh"), "--arch", self.arch, "--disk", self.disk, "--vars", self.vars,
                   "--image", self.image, "--mem", str(self.mem), "--page", "443", "--plain", "80", "--qmp", self.qmp_path]
        command += self.options + ["--"] + self.machine + list(more)
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process):
        log = open(os.path.join(self.folder, "serial.log"), "ab", buffering=0)
        # A letter that a piece only begins is read with the next one, too.
        begun, whole = "", codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in iter(lambda: process.stdout.read1(4096), b""):
            log.write(chunk)
            with self.news:
                raw = begun + whole.decode(chunk)
                # A sequence that this piece only begins is read with the next one.
                begun = BEGUN.search(raw).group(0)
                self.text += ESCAPES.sub("", raw.removesuffix(begun))
                self.news.notify_all()
        with self.news:
            if self.process is process:
                self.process = None
            self.news.notify_all()

    def mark(self):
        """A place in the serial line from which `said` may look."""
        with self.news:
            return len(self.text)

    def said(self, pattern, within, since=0):
        """Waits until the serial line has said `pattern`; its match."""
        deadline = time.monotonic() + within
        with self.news:
            while True:
                length = len(self.text)
                found = re.search(pattern, self.text[since:])
                # What ends where the text ends may be the half of a line: it is taken once nothing more comes.
                if found and (since + found.end() < length or not self.news.wait_for(lambda: len(self.text) > length, 1)):
                    return found
                if found:
                    continue
                left = deadline - time.monotonic()
                if left <= 0 or self.process is None:
                    end = "\n".join(self.text[since:].strip().splitlines()[-15:])
                    raise Failed(f"the console did not say {pattern!r} within {within} s; its end:\n{end}")
                self.news.wait(min(left, 5))

    def seen(self, pattern, since=0):
        """What the serial line has said of it so far."""
        with self.news:
            return re.search(pattern, self.text[since:])

    def seconds(self):
        """Since power on, or since the last restart that a step began."""
        return time.monotonic() - self.started

    def gone(self, within):
        """Waits until /readyz answers no more: what answers afterwards is another start."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                self.opener.open(self.page + "/readyz", timeout=2).close()
            except (urllib.error.URLError, ConnectionError, TimeoutError, socket.timeout):
                return
            with self.news:
                self.news.wait(0.2)
        raise Failed(f"the box still answers after {within} s")

    def control(self, within):
        """Waits until the emulator takes commands."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self.process is not None:
            try:
                return self.qmp("query-status")
            except (OSError, ValueError):
                with self.news:
                    self.news.wait(0.05)
        raise Failed("the emulator does not take commands")

    def ready(self, within):
        """Waits for /readyz; seconds since power on. Each half second it is asked once more, whatever became of the question before: a
        port that nobody listens at yet may keep one for seconds."""
        deadline, good = time.monotonic() + within, []

        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):
                with self.opener.open(self.page + "/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        with self.news:
                            good.append(time.monotonic() - self.started)
                            self.news.notify_all()

        while time.monotonic() < deadline:
            threading.Thread(target=ask, daemon=True).start()
            with self.news:
                self.news.wait_for(lambda: good or self.process is None, 0.5)
                if good:
                    return good[0]
            if self.process is None:
                raise Failed("the emulator ended")
        raise Failed(f"/readyz did not answer well within {within} s")

    def fingerprint(self):
        """SHA-256 of the certificate that is served, as the console shows it."""
        with socket.create_connection(("127.0.0.1", 443), timeout=60) as line:
            with unverified().wrap_socket(line) as stream:
                shown = hashlib.sha256(stream.getpeercert(binary_form=True)).hexdigest().upper()
        return ":".join(shown[at:at + 2] for at in range(0, len(shown), 2))

    def redirect(self, path):
        """Status and address to which plain http leads."""

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        try:
            with urllib.request.build_opener(Stay()).open(self.plain + path, timeout=60) as answer:
                return answer.status, None
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers["Location"]

    def api(self, method, path, body=None):
        """A request of the page's own kind; status and what was answered."""
        request = urllib.request.Request(self.page + path, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        request.add_header("Origin", self.page)
        try:
            with self.opener.open(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode("utf-8", "replace")

    def send(self, method, path, headers, body=None):
        """A request of any kind, as the page's own; status, headers and bytes of the answer."""
        request = urllib.request.Request(self.page + path, method=method, data=body, headers={"Origin": self.page, **headers})
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read()

    def broken(self, method, path, headers, body):
        """A request whose line breaks in the middle of what it sends; ends when the box has noticed."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies.cookiejar)
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Origin: {self.page}", f"Cookie: {cookies}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with socket.create_connection(("127.0.0.1", 443), timeout=60) as line:
            with unverified().wrap_socket(line) as stream:
                stream.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                # Behind what was sent: closed at once, the line would take along what is still on its way, more or less of it each time.
                stream.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    while stream.recv(65536):
                        pass

    def qmp(self, execute, **arguments):
        """One command to the emulator."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(self.qmp_path)
            stream = line.makefile("rw")
            stream.readline()
            for command in [{"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}]:
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                while True:
                    answer = json.loads(stream.readline())
                    if "return" in answer or "error" in answer:
                        break
            if "error" in answer:
                raise Failed(f"the emulator refused {execute}: {answer['error']['desc']}")
            return answer["return"]

    def event(self, name, within):
        """Waits for an event of the emulator, and answers what it says of it. What came before is not heard, and the emulator
        listens to nobody else meanwhile."""
        deadline = time.monotonic() + within
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(within)
            line.connect(self.qmp_path)
            stream = line.makefile("rw")
            stream.readline()
            stream.write(json.dumps({"execute": "qmp_capabilities"}) + "\n")
            stream.flush()
            try:
                while (left := deadline - time.monotonic()) > 0:
                    line.settimeout(left)
                    told = json.loads(stream.readline() or "null")
                    if told is None:
                        raise Failed(f"the emulator ended without a word of {name}")
                    if told.get("event") == name:
                        return told["data"]
            except TimeoutError:
                pass
        raise Failed(f"the emulator did not tell of {name} within {within} s")

    def memory_used(self, within=60):
        """MiB in use in the guest (MemTotal - MemAvailable), by the balloon's count."""
        device = next(d["name"] for d in self.qmp("qom-list", path="/machine/peripheral") if d["name"] == "balloon")
        path = f"/machine/peripheral/{device}"
        # The driver left a count when it came up, which says nothing of now.
        old = self.qmp("qom-get", path=path, property="guest-stats")["last-update"]
        self.qmp("qom-set", path=path, property="guest-stats-polling-interval", value=1)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            count = self.qmp("qom-get", path=path, property="guest-stats")
            if count["last-update"] > old:
                stats = count["stats"]
                return (stats["stat-total-memory"] - stats["stat-available-memory"]) / 2**20
            with self.news:
                self.news.wait(0.5)
        raise Failed("the guest gave no count of its memory")

    @staticmethod
    def plugged(stick):
        """Words for `start`: a USB stick that is in from power on, and is pulled like one that was plugged in."""
        return ["-blockdev", f"driver=raw,node-name=stick,read-only=on,file.driver=file,file.filename={seen(stick)}",
                "-device", "usb-storage,id=stick,drive=stick,bus=xhci.0,removable=on"]

    def plug(self, stick):
        """A USB stick, by its image file."""
        file = {"driver": "file", "filename": seen(stick)}
        self.qmp("blockdev-add", **{"driver": "raw", "node-name": "stick", "read-only": True, "file": file})
        self.qmp("device_add", driver="usb-storage", id="stick", drive="stick", bus="xhci.0", removable=True)

    def pull(self):
        self.qmp("device_del", id="stick")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return self.qmp("blockdev-del", **{"node-name": "stick"})
            except Failed:
                with self.news:
                    self.news.wait(0.2)
        raise Failed("the stick cannot be pulled")

    def freeze(self, folder):
        """Keeps the running box, memory and disk, in `folder`; it ends here."""
        os.makedirs(folder)
        self.qmp("stop")
        self.qmp("migrate", uri="file:" + seen(os.path.join(folder, "memory")))
        deadline = time.monotonic() + 300
        while (status := self.qmp("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise Failed(f"the box cannot be kept: {self.qmp('query-migrate')}")
            with self.news:
                self.news.wait(0.2)
        self.kill()
        for file in [self.disk, self.vars]:
            shutil.copy(file, folder)

    def thaw(self, folder):
        """Goes on as the box that was kept in `folder`, as often as one likes."""
        for file in [self.disk, self.vars]:
            shutil.copy(os.path.join(folder, os.path.basename(file)), file)
        self.start("-incoming", "file:" + seen(os.path.join(folder, "memory")))
        deadline = time.monotonic() + 300
        while True:
            try:
                status = self.qmp("query-status")["status"]
            except OSError:
                status = "not there yet"
            if status == "paused":
                self.qmp("cont")
            if status == "running":
                return
            if self.process is None or time.monotonic() > deadline:
                raise Failed(f"the box that was kept does not go on: {status}; {self.text.strip()[-300:]}")
            with self.news:
                self.news.wait(0.2)

    def passes(self, seconds):
        """Lets time pass, because nothing but its passing is wanted; the emulator must live."""
        with self.news:
            if self.news.wait_for(lambda: self.process is None, seconds):
                raise Failed("the emulator ended")

    def partition(self, label):
        """Where a partition of the disk begins and where its last sector does, in bytes."""
        table = self.disk + ".table"
        tool("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=512", "count=34", f"if={seen(self.disk)}", f"of={seen(table)}")
        with open(table, "rb") as file:
            entries = file.read()[1024:]
        for entry in range(0, len(entries), 128):
            if entries[entry + 56:entry + 128].decode("utf-16-le").rstrip("\0") == label:
                return tuple(int.from_bytes(entries[entry + n:entry + n + 8], "little") * 512 for n in (32, 40))
        raise Failed(f"the disk has no partition {label}")

    def damage(self, label, at=None):
        """Overwrites the block `at` of a partition of the box, which must be off; by itself one in each MiB but the first."""
        first, last = self.partition(label)
        blocks = range(first + 2**20, last, 2**20) if at is None else [first + at]
        writes = [word for block in blocks for word in ("-c", f"write -q -P 0x5a {block} 4096")]
        tool("qemu-io", "-f", "qcow2", *writes, seen(self.disk))

    def type(self, words):
        """Types a line at the serial console."""
        self.process.stdin.write(words.encode() + b"\r")
        self.process.stdin.flush()

    def press(self, keys):
        """Presses keys at the serial console, without Enter."""
        self.process.stdin.write(keys.encode())
        self.process.stdin.flush()

    def kill(self):
        """The power goes, without a word. Returns when the last process of the emulator, and with it its ports, is gone."""
        process = self.process
        if process is not None:
            ends = []
            for pid in group_of(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    ends.append(os.pidfd_open(pid))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for end in ends:
                select.select([end], [], [])
                os.close(end)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def group_of(leader):
    """The processes that began with `leader` and are still there."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                # After the name, which may have anything in it: state, parent, group.
                state, _, group = file.read().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(group) == leader and state not in "ZX":
            found.append(int(name))
    return found


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def tool(*command):
    """A command of the tools root."""
    return subprocess.run([os.path.join(FIRMWARE, "image", "tool.sh"), *command], check=True, stdout=subprocess.PIPE).stdout
