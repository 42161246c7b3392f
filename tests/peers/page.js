// What runs inside Chromium: an unmodified livekit-client, and ears that write down what it hears.
const LK = window.LivekitClient;
const events = [];
let room;
let context;

function note(kind, fields = {}) {
  const event = { kind, at: performance.now(), ...fields };
  events.push(event);
  window.tell(event);
}

async function ears() {
  if (!context) {
    context = new AudioContext({ sampleRate: 48000 });
    await context.resume();
  }
  return context;
}

window.peer = {
  async connect({ url, token, options = {} }) {
    room = new LK.Room({
      adaptiveStream: false,
      dynacast: false,
      audioCaptureDefaults: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      ...options,
    });
    const E = LK.RoomEvent;
    room
      .on(E.ParticipantConnected, (p) => note('participant-connected', { identity: p.identity, participantKind: p.kind }))
      .on(E.ParticipantDisconnected, (p) => note('participant-disconnected', { identity: p.identity }))
      .on(E.TrackSubscribed, (t, pub, p) => {
        note('track-subscribed', { identity: p.identity, track: t.kind, sid: pub.trackSid });
        const element = t.attach();
        element.muted = false;
        document.body.appendChild(element);
        element.play().catch(() => {});
      })
      .on(E.TrackUnsubscribed, (t, pub, p) => {
        t.detach().forEach((element) => element.remove());
        note('track-unsubscribed', { identity: p.identity, track: t.kind });
      })
      .on(E.TrackMuted, (pub, p) => note('track-muted', { identity: p.identity, track: pub.kind }))
      .on(E.TrackUnmuted, (pub, p) => note('track-unmuted', { identity: p.identity, track: pub.kind }))
      .on(E.DataReceived, (payload, p, kind) =>
        note('data', { identity: p && p.identity, text: new TextDecoder().decode(payload), reliable: kind === LK.DataPacket_Kind.RELIABLE }))
      .on(E.ActiveSpeakersChanged, (s) => note('speakers', { identities: s.map((p) => p.identity) }))
      .on(E.ConnectionQualityChanged, (q, p) => note('quality', { identity: p.identity, quality: q }))
      .on(E.Reconnecting, () => note('reconnecting'))
      .on(E.Reconnected, () => note('reconnected'))
      .on(E.Disconnected, (reason) => note('disconnected', { reason }));
    await room.connect(url, token, { autoSubscribe: true });
    note('connected', { identity: room.localParticipant.identity });
    return { sid: await room.getSid(), identity: room.localParticipant.identity, server: room.serverInfo };
  },

  async publish({ audio = true, video = false }) {
    if (audio) await room.localParticipant.setMicrophoneEnabled(true);
    if (video) await room.localParticipant.setCameraEnabled(true);
    return [...room.localParticipant.trackPublications.values()].map((p) => ({ sid: p.trackSid, kind: p.kind }));
  },

  async microphone({ enabled }) {
    await room.localParticipant.setMicrophoneEnabled(enabled);
    return {};
  },

  async send({ text, reliable = true, to }) {
    await room.localParticipant.publishData(new TextEncoder().encode(text), {
      reliable,
      destinationIdentities: to,
    });
    return {};
  },

  // Writes down `milliseconds` of every remote audio track: identity -> 16-bit 48 kHz PCM, base64.
  async hear({ milliseconds }) {
    const ctx = await ears();
    const heard = {};
    const taps = [];
    for (const p of room.remoteParticipants.values()) {
      for (const pub of p.audioTrackPublications.values()) {
        if (!pub.track) continue;
        const source = ctx.createMediaStreamSource(new MediaStream([pub.track.mediaStreamTrack]));
        const tap = ctx.createScriptProcessor(4096, 1, 1);
        const chunks = [];
        tap.onaudioprocess = (e) => chunks.push(new Float32Array(e.inputBuffer.getChannelData(0)));
        source.connect(tap);
        tap.connect(ctx.destination);
        taps.push({ source, tap });
        heard[p.identity] = chunks;
      }
    }
    const wanted = (milliseconds / 1000) * ctx.sampleRate;
    await new Promise((resolve) => {
      const enough = () => {
        const all = Object.values(heard);
        if (all.length > 0 && all.every((c) => c.length * 4096 >= wanted)) resolve();
      };
      for (const { tap } of taps) tap.addEventListener('audioprocess', enough);
      setTimeout(resolve, milliseconds + 5000);
    });
    const out = {};
    for (const { source, tap } of taps) {
      source.disconnect();
      tap.disconnect();
    }
    for (const [identity, chunks] of Object.entries(heard)) {
      const pcm = new Int16Array(chunks.length * 4096);
      chunks.forEach((c, i) => c.forEach((v, j) => {
        pcm[i * 4096 + j] = Math.max(-32768, Math.min(32767, Math.round(v * 32767)));
      }));
      let binary = '';
      const bytes = new Uint8Array(pcm.buffer);
      for (let i = 0; i < bytes.length; i += 32768) {
        binary += String.fromCharCode(...bytes.subarray(i, i + 32768));
      }
      out[identity] = btoa(binary);
    }
    return out;
  },

  // Frames decoded so far of every remote video track: identity -> {frames, width, height}.
  async see() {
    const out = {};
    for (const p of room.remoteParticipants.values()) {
      for (const pub of p.videoTrackPublications.values()) {
        if (!pub.track) continue;
        const report = await pub.track.getRTCStatsReport();
        report?.forEach((s) => {
          if (s.type === 'inbound-rtp') {
            out[p.identity] = { codec: report.get(s.codecId)?.mimeType, frames: s.framesDecoded ?? 0, width: s.frameWidth ?? 0, height: s.frameHeight ?? 0, keyFrames: s.keyFramesDecoded ?? 0 };
          }
        });
      }
    }
    return out;
  },

  // SRTP profile of every peer connection that carries media.
  async profiles() {
    const out = [];
    const manager = room.engine.pcManager;
    for (const transport of [manager.publisher, manager.subscriber].filter(Boolean)) {
      const report = await transport.getStats();
      report.forEach((s) => {
        if (s.type === 'transport' && s.srtpCipher) out.push({ cipher: s.srtpCipher, dtls: s.tlsVersion });
      });
    }
    return out;
  },

  async sending() {
    const out = [];
    const report = await room.engine.pcManager.publisher.getStats();
    report.forEach((s) => {
      if (s.type === 'outbound-rtp') out.push({ kind: s.kind, rid: s.rid, bytes: s.bytesSent, target: s.targetBitrate, width: s.frameWidth, nack: s.nackCount, pli: s.pliCount });
      if (s.type === 'candidate-pair' && s.nominated) out.push({ kind: 'path', available: s.availableOutgoingBitrate });
    });
    return out;
  },

  async participants() {
    return [...room.remoteParticipants.values()].map((p) => ({
      identity: p.identity, name: p.name, kind: p.kind, attributes: p.attributes,
      tracks: [...p.trackPublications.values()].map((t) => ({ sid: t.trackSid, kind: t.kind, muted: t.isMuted, subscribed: t.isSubscribed })),
    }));
  },

  async events() {
    return events;
  },

  async disconnect() {
    await room.disconnect();
    return {};
  },
};
