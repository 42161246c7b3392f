import { expect, it } from 'vitest';
import { Problem } from '../api';
import { again } from './join';

it('comes back while the box is away, waits when told to, and stops when refused', () => {
  expect(again(new Problem('unreachable', 0, '', null))).toBe(0);
  expect(again(new Problem('unavailable', 503, '', null))).toBe(0);
  expect(again(new Error('could not establish signal connection'))).toBe(0);
  expect(again(new Problem('slowed', 429, '', 4))).toBe(4_000);
  expect(again(new Problem('code_unknown', 404, '', null))).toBe('never');
});
