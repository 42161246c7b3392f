import { Room } from 'livekit-client';
import { type Door, Problem, type Ticket, api } from '../api';
import { isFull } from '../kit/problem';

/** The address of the signalling socket: the box may name it, else it is where the page came from. */
export function signalUrl(ticket: Ticket): string {
  return ticket.url || location.origin.replace(/^http/, 'ws');
}

export function newRoom(): Room {
  return new Room({
    adaptiveStream: true,
    dynacast: true,
    disconnectOnPageLeave: true,
    publishDefaults: { dtx: true, red: false, videoCodec: 'vp8', simulcast: true },
  });
}

/** Asks the box for a token, then enters. */
export async function enter(door: Door, name: string, room: Room): Promise<Ticket> {
  const ticket = await api.join(door, name);
  try {
    await room.connect(signalUrl(ticket), ticket.token, { autoSubscribe: true });
  } catch (error) {
    // A browser hides why a socket was refused. The door says it, when the room has filled up since.
    await api.join(door, name);
    throw error;
  }
  return ticket;
}

/**
 * Whether coming back makes sense after this refusal: milliseconds to wait at least, or never.
 *
 * A door that said no must not be tried again and again: each wrong try counts against everybody
 * behind the same address. A full room is a no as well, which only a person can wait out.
 */
export function again(error: unknown): number | 'never' {
  if (isFull(error)) return 'never';
  if (!(error instanceof Problem)) return 0;
  if (error.status === 429) return (error.wait ?? 1) * 1_000;
  return error.status >= 400 && error.status < 500 ? 'never' : 0;
}
