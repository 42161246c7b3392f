import { ConnectionError } from 'livekit-client';
import type { TFunction } from 'i18next';
import { Problem } from '../api';

/** HTTP status of a full room, on the signalling socket and at the door. */
const FULL = { socket: 429, door: 'room_full' };

/** Whether the room has all the people it may have. */
export function isFull(error: unknown): boolean {
  if (error instanceof Problem) return error.code === FULL.door;
  if (!(error instanceof ConnectionError)) return false;
  const context = error.context as { status?: number } | undefined;
  return (error.status ?? context?.status) === FULL.socket;
}

/** A refusal in the reader's language; the box's own sentence when we have none for its code. */
export function sentence(t: TFunction, error: unknown): string {
  if (isFull(error)) return t('problem.room_full');
  if (!(error instanceof Problem)) return t('problem.unknown');
  const key = `problem.${error.code}`;
  const own = t(key, { count: Math.ceil(error.wait ?? 1), defaultValue: '' });
  return own || error.message || t('problem.unknown');
}
