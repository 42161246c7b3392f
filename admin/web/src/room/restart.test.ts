import { expect, it } from 'vitest';
import { secondsLeft } from './restart';

const read = (text: string) => secondsLeft(new TextEncoder().encode(text));

it('reads when the box restarts, and that it does not', () => {
  expect(read('{"seconds":30}')).toBe(30);
  expect(read('{"seconds":null}')).toBeNull();
});

it('takes no harm from what the box never says', () => {
  for (const text of ['', 'null', '3', '{}', '{"seconds":"30"}', '{"seconds":-1}', '{"seconds":1.5}', '{"seconds":']) {
    expect(read(text)).toBeNull();
  }
});
