import { Room } from 'livekit-client';
import { type Door, type Ticket, api } from '../api';

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
  await room.connect(signalUrl(ticket), ticket.token, { autoSubscribe: true });
  return ticket;
}
