import type { TFunction } from 'i18next';
import { Problem } from '../api';

/** Whether the room has all the people it may have. */
export function isFull(error: unknown): boolean {
  return error instanceof Problem && error.code === 'room_full';
}

/** Whether it was refused because the box restarts. */
export function isRestarting(error: unknown): boolean {
  return error instanceof Problem && error.code === 'restarting';
}

/** A refusal in the reader's language; the box's own sentence when we have none for its code. */
export function sentence(t: TFunction, error: unknown): string {
  if (isFull(error)) return t('problem.room_full');
  // The door has said yes before: what failed is the way between this browser and the box.
  if (error instanceof Error && error.name === 'ConnectionError') return t('problem.media');
  if (!(error instanceof Problem)) return t('problem.unknown');
  const key = `problem.${error.code}`;
  const own = t(key, { count: Math.ceil(error.wait ?? 1), defaultValue: '' });
  return own || error.message || t('problem.unknown');
}
