"""A telephone: baresip, driven by JSON lines like the other peers.

{"id": 1, "do": "dial", "uri": "sip:...@..."} -> {"id": 1, "ok": {...}} or {"id": 1, "error": "..."}
What happens to it comes by itself, named as baresip does: {"event": {"kind": "CALL_CLOSED", ...}}.
Arguments: CODEC[,CODEC...] TONE_HZ ADDRESS LEVEL_DBFS; codecs are baresip's modules g711, g722, opus
(g711 offers PCMA only here). It plays a sine and writes down what it hears.
"""

import asyncio
import base64
import ctypes
import json
import math
import os
import pathlib
import shutil
import struct
import sys
import tempfile
import wave

MODULES = pathlib.Path("/usr/lib/baresip/modules")
CODECS = {"pcma": ("g711", "PCMA/8000/1"), "pcmu": ("g711", "PCMU/8000/1"), "g722": ("g722", "G722/16000/1"), "opus": ("opus", "opus/48000/2")}
RATES = {"pcma": 8000, "pcmu": 8000, "g722": 16000, "opus": 48000}


def write_tone(path: pathlib.Path, rate: int, hertz: float, level: float, channels: int, seconds: int = 240) -> None:
    peak = 32767 * 10 ** (level / 20)
    # A whole number of periods a second, so one second can be repeated without a click.
    one = b"".join(struct.pack("<h", round(peak * math.sin(2 * math.pi * round(hertz) * n / rate))) * channels for n in range(rate))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        for _ in range(seconds):
            out.writeframes(one)


def answer(message: dict) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Growth:
    """Tells when a file of a folder was written to (inotify(7), which Python's library does not have)."""

    IN_MODIFY = 2

    def __init__(self, folder: pathlib.Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.watch < 0 or libc.inotify_add_watch(self.watch, bytes(folder), self.IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self.seen = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.watch, self.read)

    def read(self) -> None:
        os.read(self.watch, 65536)
        self.seen.set()

    async def more(self, seconds: float) -> bool:
        """Waits for the next write; False when none came."""
        self.seen.clear()
        try:
            await asyncio.wait_for(self.seen.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.watch)
        os.close(self.watch)


class Phone:
    def __init__(self, codecs: list[str], tone: float, address: str, level: float) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="palabre-phone-"))
        self.events: list[dict] = []
        self.answers: dict[str, asyncio.Future] = {}
        self.arrived = asyncio.Event()
        self.codecs, self.tone, self.address, self.level = codecs, tone, address, level
        self.count = 0
        self.process: asyncio.subprocess.Process | None = None

    def configure(self, sip_port: int, control_port: int) -> None:
        rate = max(RATES[c] for c in self.codecs)
        channels = 2 if self.codecs == ["opus"] else 1
        write_tone(self.folder / "tone.wav", rate, self.tone, self.level, channels)
        modules = sorted({CODECS[c][0] for c in self.codecs})
        lines = [
            f"sip_listen {self.address}:{sip_port}",
            "poll_method epoll",
            "call_local_timeout 120", "call_max_calls 4",
            f"audio_source aufile,{self.folder}/tone.wav",
            "audio_player aubridge,sink",
            "audio_alert aubridge,alert",
            f"audio_srate {rate}", f"audio_channels {channels}",
            "rtp_ports 30000-39999", "rtcp_mux no", "jitter_buffer_delay 2-10",
            "net_af ipv4",
            f"module_path {MODULES}",
            "module stdio.so",
            *[f"module {m}.so" for m in modules],
            "module aufile.so", "module aubridge.so", "module sndfile.so",
            f"snd_path {self.folder}",
            "module_tmp account.so",
            "module_app menu.so", "module_app ctrl_tcp.so",
            f"ctrl_tcp_listen 127.0.0.1:{control_port}",
        ]
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        order = ",".join(CODECS[c][1] for c in self.codecs)
        (self.folder / "accounts").write_text(f"<sip:tester@{self.address}:{sip_port}>;regint=0;audio_codecs={order};answermode=manual\n")
        (self.folder / "contacts").write_text("")

    async def start(self) -> None:
        self.configure(free_port(), control := free_port())
        self.process = await asyncio.create_subprocess_exec(
            # Its lines are wanted when they are written, not when a buffer is full.
            "stdbuf", "-oL", "baresip", "-f", str(self.folder), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        self.ready = asyncio.Event()
        self.logger = asyncio.create_task(self.keep_log())
        try:
            await asyncio.wait_for(self.ready.wait(), 20)
            reader, self.writer = await asyncio.open_connection("127.0.0.1", control)
        except (asyncio.TimeoutError, OSError) as error:
            raise RuntimeError("baresip is not ready: " + (self.folder / "log").read_text()) from error
        self.task = asyncio.create_task(self.read(reader))

    async def keep_log(self) -> None:
        with open(self.folder / "log", "ab", buffering=0) as log:
            while line := await self.process.stdout.readline():
                log.write(line)
                if b"baresip is ready" in line:
                    self.ready.set()
        # It ended: whoever waits for it to be ready finds that nobody listens.
        self.ready.set()

    async def read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                size = int((await reader.readuntil(b":"))[:-1])
                message = json.loads((await reader.readexactly(size + 1))[:-1])
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if message.get("response"):
                future = self.answers.pop(message.get("token"), None)
                if future and not future.done():
                    future.set_result(message)
            else:
                self.events.append(message)
                self.arrived.set()
                answer({"event": {"kind": message.get("type"), **message}})

    async def command(self, command: str, params: str = "") -> dict:
        self.count += 1
        token = str(self.count)
        body = json.dumps({"command": command, "params": params, "token": token}).encode()
        future = asyncio.get_running_loop().create_future()
        self.answers[token] = future
        self.writer.write(str(len(body)).encode() + b":" + body + b",")
        return await asyncio.wait_for(future, 10)

    async def wait(self, kinds: list[str], seconds: float = 20, since: int = 0) -> dict:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            for event in self.events[since:]:
                if event.get("type") in kinds:
                    return event
            self.arrived.clear()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise TimeoutError(f"none of {kinds} in {self.events[since:]}; log: {(self.folder / 'log').read_text()[-2000:]}")
            try:
                await asyncio.wait_for(self.arrived.wait(), left)
            except asyncio.TimeoutError:
                continue

    async def dial(self, uri: str) -> dict:
        since = len(self.events)
        await self.command("dial", uri)
        event = await self.wait(["CALL_ESTABLISHED", "CALL_CLOSED"], 30, since)
        return {"type": event["type"], "reason": event.get("param", "")}

    async def digits(self, keys: str) -> dict:
        for key in keys:
            await self.command("sndcode", key)
            # A key press lasts: baresip sends the end of the event when it is let go.
            await asyncio.sleep(0.12)
            await self.command("sndcode", "\x04")
            # And so does the silence after it, else two equal keys are one.
            await asyncio.sleep(0.12)
        return {}

    async def closed(self, seconds: float = 20) -> dict:
        event = await self.wait(["CALL_CLOSED"], seconds)
        return {"reason": event.get("param", "")}

    def recording(self) -> tuple[int, int, bytes]:
        """Rate, channels and samples of what was heard so far; the header is not trusted while the call lasts."""
        files = sorted(self.folder.glob("*dec.wav"))
        if not files:
            return 8000, 1, b""
        raw = files[-1].read_bytes()
        channels, rate = struct.unpack("<HI", raw[22:28])
        at = raw.find(b"data")
        return rate, channels, raw[at + 8:]

    async def hear(self, milliseconds: int) -> dict:
        """What is heard from now on, and how many seconds of it had come before but were not written yet: baresip decodes and
        writes what waits in its socket when it gets to it, as fast as it can, and what is written faster than time passes is old."""
        begun = asyncio.get_running_loop().time()
        rate, channels, before = self.recording()
        deadline = begun + milliseconds / 1000 + 5
        behind = 0.0
        growth = Growth(self.folder)
        try:
            while True:
                rate, channels, now = self.recording()
                written = (len(now) - len(before)) / (rate * channels * 2)
                behind = max(behind, written - (asyncio.get_running_loop().time() - begun))
                if written >= milliseconds / 1000:
                    break
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or not await growth.more(left):
                    break
        finally:
            growth.stop()
        pcm = now[len(before) - len(before) % (2 * channels):]
        if channels == 2:
            pcm = b"".join(pcm[i:i + 2] for i in range(0, len(pcm) - 3, 4))
        return {"rate": rate, "behind": behind, "pcm": base64.b64encode(pcm[:len(pcm) - len(pcm) % 2]).decode()}

    async def heard_all(self) -> dict:
        rate, channels, pcm = self.recording()
        if channels == 2:
            pcm = b"".join(pcm[i:i + 2] for i in range(0, len(pcm) - 3, 4))
        return {"rate": rate, "pcm": base64.b64encode(pcm[:len(pcm) - len(pcm) % 2]).decode()}

    async def hold(self, on: bool) -> dict:
        return await self.command("hold" if on else "resume")

    async def hangup(self) -> dict:
        await self.command("hangup")
        return {}

    async def log(self) -> dict:
        return {"log": (self.folder / "log").read_text()}

    async def stop(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.terminate()
            # It takes leave of whom it speaks with, who may be gone; the test waits for this program no longer than five seconds.
            try:
                await asyncio.wait_for(self.process.wait(), 2)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def main() -> None:
    phone = Phone(sys.argv[1].split(","), float(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
    await phone.start()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    answer({"ready": True})
    while line := await reader.readline():
        command = json.loads(line)
        number, verb = command.pop("id", None), command.pop("do")
        if verb == "quit":
            break
        try:
            result = phone.events if verb == "events" else await getattr(phone, verb)(**command)
            answer({"id": number, "ok": result})
        except Exception as error:  # The test wants the reason whatever it is.
            answer({"id": number, "error": f"{type(error).__name__}: {error}"})
    await phone.stop()


asyncio.run(main())
