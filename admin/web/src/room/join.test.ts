import { expect, it } from 'vitest';
import { Problem } from '../api';
import { ConnectionError } from 'livekit-client';
import type { TFunction } from 'i18next';
import { isFull, sentence } from '../kit/problem';
import { again } from './join';

it('comes back while the box is away, waits when told to, and stops when refused', () => {
  expect(again(new Problem('unreachable', 0, '', null))).toBe(0);
  expect(again(new Problem('unavailable', 503, '', null))).toBe(0);
  expect(again(new Error('could not establish signal connection'))).toBe(0);
  expect(again(new Problem('slowed', 429, '', 4))).toBe(4_000);
  expect(again(new Problem('code_unknown', 404, '', null))).toBe('never');
});

it('says that the room is full and stops, whoever says it first', () => {
  const t = ((key: string) => key) as unknown as TFunction;
  const door = new Problem('room_full', 409, 'The room is full.', null);
  const socket = ConnectionError.internal('unknown', { status: 429, statusText: 'Too Many Requests' });
  for (const error of [door, socket]) {
    expect(isFull(error)).toBe(true);
    expect(again(error)).toBe('never');
    expect(sentence(t, error)).toBe('problem.room_full');
  }
  const away = ConnectionError.serverUnreachable('away');
  expect(isFull(away)).toBe(false);
  expect(again(away)).toBe(0);
  expect(isFull(new Problem('slowed', 429, '', 4))).toBe(false);
});
