import { describe, expect, it } from 'vitest';
import { digits, spaced } from './api';

describe('a room code', () => {
  it('is read from what people paste', () => {
    expect(digits(' 123-456.789# ')).toBe('123456789');
    expect(digits('1234567890')).toBe('123456789');
  });
  it('is shown three by three, also while it is typed', () => {
    expect(spaced('123456789')).toBe('123 456 789');
    expect(spaced('1234')).toBe('123 4');
    expect(spaced('')).toBe('');
  });
});
