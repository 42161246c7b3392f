import { expect, it } from 'vitest';
import { columns } from './useParticipants';

it('uses the room there is', () => {
  expect(columns(1, 16 / 9)).toBe(1);
  expect(columns(2, 16 / 9)).toBe(2);
  expect(columns(4, 16 / 9)).toBe(2);
  expect(columns(9, 16 / 9)).toBe(3);
  expect(columns(2, 9 / 16)).toBe(1);
  expect(columns(49, 16 / 9)).toBe(7);
});
