import { expect, it } from 'vitest';
import { goesOn, nameOf } from './upload';

const upload = { id: '0'.repeat(32), length: 3, offset: 1, metadata: 'filename w6kucGxidQ==' };

it('knows the file that was cut by its name and length', () => {
  expect(nameOf(upload)).toBe('é.plbu');
  const file = (name: string, text: string) => new File([text], name);
  expect(goesOn(file('é.plbu', 'abc'), upload)).toBe(true);
  expect(goesOn(file('é.plbu', 'abcd'), upload)).toBe(false);
  expect(goesOn(file('b.plbu', 'abc'), upload)).toBe(false);
  expect(goesOn(file('é.plbu', 'abc'), null)).toBe(false);
});

it('takes no harm from metadata of others', () => {
  for (const metadata of [null, '', 'filename', 'filename %%%', 'name eA==', 'filename eA==,x']) {
    expect(() => nameOf({ ...upload, metadata })).not.toThrow();
  }
});
