import { expect, it } from 'vitest';
import en from './en.json';
import fr from './fr.json';

function keys(node: object, prefix = ''): string[] {
  return Object.entries(node).flatMap(([key, value]) =>
    typeof value === 'object' ? keys(value, `${prefix}${key}.`) : [`${prefix}${key}`],
  );
}
// French has a plural form for millions that English lacks.
const shared = (all: string[]) => all.filter((key) => !key.endsWith('_many')).sort();

it('says everything in both languages', () => {
  expect(shared(keys(fr))).toEqual(shared(keys(en)));
});

it('fills the same blanks in both languages', () => {
  const blanks = (node: object, path: string[]): string => {
    const text = path.reduce<unknown>((n, k) => (n as Record<string, unknown>)[k], node) as string;
    return [...text.matchAll(/\{\{(\w+)\}\}/g)].map((m) => m[1]).sort().join();
  };
  for (const key of shared(keys(fr))) {
    expect(blanks(en, key.split('.')), key).toBe(blanks(fr, key.split('.')));
  }
});

it('sets French as the French do', () => {
  const alone = (node: object): string[] =>
    Object.values(node).flatMap((value) => (typeof value === 'object' ? alone(value) : / [:;?!»]|« |\p{L}'\p{L}/u.test(value) ? [value] : []));
  expect(alone(fr)).toEqual([]);
});
