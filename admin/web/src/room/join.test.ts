import { expect, it, vi } from 'vitest';
import { type Door, Problem, type Ticket, api } from '../api';
import { ConnectionError, type Room } from 'livekit-client';
import type { TFunction } from 'i18next';
import { isFull, sentence } from '../kit/problem';
import { again, enter } from './join';

it('comes back while the box is away, waits when told to, and stops when refused', () => {
  expect(again(new Problem('unreachable', 0, '', null))).toBe(0);
  expect(again(new Problem('unavailable', 503, '', null))).toBe(0);
  expect(again(new Error('could not establish signal connection'))).toBe(0);
  expect(again(new Problem('slowed', 429, '', 4))).toBe(4_000);
  expect(again(new Problem('code_unknown', 404, '', null))).toBe('never');
});

it('says that the room is full and stops', () => {
  const t = ((key: string) => key) as unknown as TFunction;
  const full = new Problem('room_full', 409, 'The room is full.', null);
  expect(isFull(full)).toBe(true);
  expect(again(full)).toBe('never');
  expect(sentence(t, full)).toBe('problem.room_full');
  const away = ConnectionError.serverUnreachable('away');
  expect(isFull(away)).toBe(false);
  expect(again(away)).toBe(0);
  expect(isFull(new Problem('slowed', 429, '', 4))).toBe(false);
});

it('asks the door why the socket was refused', async () => {
  // What livekit-client gives for a refused upgrade, whatever its status was.
  const refused = ConnectionError.serverUnreachable('could not establish signal connection');
  const room = { connect: () => Promise.reject(refused) } as unknown as Room;
  const ticket = { url: 'ws://box', token: 'token' } as Ticket;
  const full = new Problem('room_full', 409, 'The room is full.', null);
  const door = { code: '123456789' } as Door;
  const join = vi.spyOn(api, 'join');
  join.mockResolvedValueOnce(ticket).mockRejectedValueOnce(full);
  await expect(enter(door, 'Alice', room)).rejects.toBe(full);
  join.mockResolvedValue(ticket);
  await expect(enter(door, 'Alice', room)).rejects.toBe(refused);
});
