import { ConnectionState, type Participant, type Room, RoomEvent } from 'livekit-client';
import { useEffect, useReducer } from 'react';

const CHANGES = [
  RoomEvent.ParticipantConnected, RoomEvent.ParticipantDisconnected, RoomEvent.ParticipantNameChanged,
  RoomEvent.TrackSubscribed, RoomEvent.TrackUnsubscribed, RoomEvent.TrackMuted, RoomEvent.TrackUnmuted,
  RoomEvent.TrackPublished, RoomEvent.TrackUnpublished, RoomEvent.LocalTrackPublished, RoomEvent.LocalTrackUnpublished,
  RoomEvent.ActiveSpeakersChanged, RoomEvent.ConnectionQualityChanged, RoomEvent.ConnectionStateChanged,
  RoomEvent.Connected, RoomEvent.Reconnected, RoomEvent.AudioPlaybackStatusChanged,
] as const;

export interface View {
  people: Participant[];
  state: ConnectionState;
  canPlay: boolean;
}

/** The room as React sees it: drawn again whenever livekit-client says something changed. */
export function useParticipants(room: Room): View {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    CHANGES.forEach((event) => room.on(event, redraw));
    return () => CHANGES.forEach((event) => room.off(event, redraw));
  }, [room]);
  const others = [...room.remoteParticipants.values()].sort((a, b) => (a.joinedAt?.getTime() ?? 0) - (b.joinedAt?.getTime() ?? 0));
  return { people: [room.localParticipant, ...others], state: room.state, canPlay: room.canPlaybackAudio };
}

/** Columns that give the largest 16:9 tiles for `count` people in a box of `ratio` (width / height). */
export function columns(count: number, ratio: number): number {
  let best = 1;
  let bestWidth = 0;
  for (let across = 1; across <= count; across += 1) {
    const down = Math.ceil(count / across);
    const width = Math.min(1 / across, (16 / 9) / (ratio * down));
    // On a tie people sit side by side, as they would at a table.
    if (width >= bestWidth - 1e-9) {
      best = across;
      bestWidth = width;
    }
  }
  return best;
}
