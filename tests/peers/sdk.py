"""A participant on the PyPI `livekit` client (LiveKit's Rust core), driven by JSON lines.

{"id": 1, "do": "connect", "url": ..., "token": ...} -> {"id": 1, "ok": {...}} or {"id": 1, "error": "..."}
What happens to it comes by itself: {"event": {"kind": ...}}.
It publishes a sine and a moving VP8 picture, and writes down what it hears and sees.
"""

import asyncio
import base64
import json
import sys

import numpy as np
from livekit import rtc

RATE = 48000


def answer(message: dict) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Peer:
    def __init__(self) -> None:
        self.room = rtc.Room()
        self.events: list[dict] = []
        self.heard: dict[str, list[bytes]] = {}
        self.heard_more = asyncio.Event()
        self.seen: dict[str, dict] = {}
        self.tasks: set[asyncio.Task] = set()
        self.publications: dict[str, rtc.LocalTrackPublication] = {}
        self.tracks: dict[str, rtc.Track] = {}

    def note(self, kind: str, **fields: object) -> None:
        event = {"kind": kind, **fields}
        self.events.append(event)
        answer({"event": event})

    def spawn(self, coroutine) -> None:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def listen(self, identity: str, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        async for event in stream:
            chunks = self.heard.setdefault(identity, [])
            chunks.append(bytes(event.frame.data))
            del chunks[:-1500]
            self.heard_more.set()

    async def watch(self, identity: str, track: rtc.Track) -> None:
        async for event in rtc.VideoStream(track):
            known = self.seen.setdefault(identity, {"frames": 0, "width": 0, "height": 0})
            known["frames"] += 1
            known["width"], known["height"] = event.frame.width, event.frame.height

    async def connect(self, url: str, token: str, **_: object) -> dict:
        room = self.room
        room.on("participant_connected", lambda p: self.note("participant-connected", identity=p.identity, participantKind=int(p.kind)))
        room.on("participant_disconnected", lambda p: self.note("participant-disconnected", identity=p.identity))
        room.on("track_muted", lambda p, pub: self.note("track-muted", identity=p.identity))
        room.on("track_unmuted", lambda p, pub: self.note("track-unmuted", identity=p.identity))
        room.on("data_received", lambda d: self.note("data", identity=d.participant and d.participant.identity, text=d.data.decode(), reliable=d.kind == rtc.DataPacketKind.KIND_RELIABLE))
        room.on("active_speakers_changed", lambda s: self.note("speakers", identities=[p.identity for p in s]))
        room.on("disconnected", lambda reason: self.note("disconnected", reason=str(reason)))
        room.on("reconnecting", lambda *_: self.note("reconnecting"))
        room.on("reconnected", lambda *_: self.note("reconnected"))

        def subscribed(track, publication, participant) -> None:
            kind = "audio" if track.kind == rtc.TrackKind.KIND_AUDIO else "video"
            self.note("track-subscribed", identity=participant.identity, track=kind, sid=publication.sid)
            self.spawn(self.listen(participant.identity, track) if kind == "audio" else self.watch(participant.identity, track))

        room.on("track_subscribed", subscribed)
        room.on("track_unsubscribed", lambda t, pub, p: self.note("track-unsubscribed", identity=p.identity))
        await room.connect(url, token, rtc.RoomOptions(auto_subscribe=True))
        return {"sid": await room.sid, "identity": room.local_participant.identity}

    async def publish(self, tone: float = 0, video: bool = False, **_: object) -> list[dict]:
        out = []
        if tone:
            source = rtc.AudioSource(RATE, 1)
            track = rtc.LocalAudioTrack.create_audio_track("tone", source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            publication = await self.room.local_participant.publish_track(track, options)
            self.publications["audio"], self.tracks["audio"] = publication, track
            self.spawn(self.sing(source, tone))
            out.append({"sid": publication.sid, "kind": "audio"})
        if video:
            source = rtc.VideoSource(640, 360)
            track = rtc.LocalVideoTrack.create_video_track("picture", source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, video_codec=rtc.VideoCodec.VP8)
            publication = await self.room.local_participant.publish_track(track, options)
            self.publications["video"], self.tracks["video"] = publication, track
            self.spawn(self.paint(source))
            out.append({"sid": publication.sid, "kind": "video"})
        return out

    async def sing(self, source: rtc.AudioSource, tone: float) -> None:
        samples, position = RATE // 50, 0
        while True:
            t = (np.arange(samples) + position) / RATE
            pcm = (np.sin(2 * np.pi * tone * t) * 8231).astype(np.int16)
            await source.capture_frame(rtc.AudioFrame(pcm.tobytes(), RATE, 1, samples))
            position += samples

    async def paint(self, source: rtc.VideoSource) -> None:
        width, height, shift = 640, 360, 0
        while True:
            y = np.tile(((np.arange(width) + shift) % 256).astype(np.uint8), (height, 1))
            u = np.full((height // 2, width // 2), 90, np.uint8)
            v = np.full((height // 2, width // 2), (shift * 3) % 256, np.uint8)
            data = y.tobytes() + u.tobytes() + v.tobytes()
            source.capture_frame(rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, bytearray(data)))
            shift += 5
            await asyncio.sleep(1 / 20)

    async def microphone(self, enabled: bool) -> dict:
        track = self.tracks["audio"]
        track.unmute() if enabled else track.mute()
        return {}

    async def send(self, text: str, reliable: bool = True, to: list[str] | None = None) -> dict:
        await self.room.local_participant.publish_data(text.encode(), reliable=reliable, destination_identities=to or [])
        return {}

    async def hear(self, milliseconds: int) -> dict:
        self.heard = {}
        wanted = RATE * 2 * milliseconds // 1000
        deadline = asyncio.get_running_loop().time() + milliseconds / 1000 + 5
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            self.heard_more.clear()
            try:
                await asyncio.wait_for(self.heard_more.wait(), left)
            except asyncio.TimeoutError:
                break
            sizes = [sum(map(len, chunks)) for chunks in self.heard.values()]
            if sizes and all(size >= wanted for size in sizes):
                break
        return {who: base64.b64encode(b"".join(chunks)).decode() for who, chunks in self.heard.items()}

    async def see(self) -> dict:
        return self.seen

    async def participants(self) -> list[dict]:
        return [
            {"identity": p.identity, "name": p.name, "kind": int(p.kind), "attributes": dict(p.attributes),
             "tracks": [{"sid": t.sid, "muted": t.muted, "kind": int(t.kind)} for t in p.track_publications.values()]}
            for p in self.room.remote_participants.values()
        ]

    async def disconnect(self) -> dict:
        await self.room.disconnect()
        return {}


async def main() -> None:
    peer = Peer()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    answer({"ready": True, "version": rtc.__dict__.get("__version__", "livekit")})
    while line := await reader.readline():
        command = json.loads(line)
        number, verb = command.pop("id", None), command.pop("do")
        if verb == "quit":
            break
        try:
            if verb == "events":
                result: object = peer.events
            else:
                result = await getattr(peer, verb)(**command)
            answer({"id": number, "ok": result})
        except Exception as error:  # The test wants the reason whatever it is.
            answer({"id": number, "error": f"{type(error).__name__}: {error}"})


asyncio.run(main())
