import i18next from 'i18next';
import { ParticipantKind } from 'livekit-client';
import { expect, it } from 'vitest';
import en from '../i18n/en.json';
import fr from '../i18n/fr.json';
import { shownName } from './name';

async function names(lng: string): Promise<string[]> {
  const instance = i18next.createInstance();
  const t = await instance.init({ lng, showSupportNotice: false, resources: { en: { translation: en }, fr: { translation: fr } }, interpolation: { escapeValue: false } });
  // All of them called in French, as their names as participants tell.
  const callers = [
    { name: 'Téléphone 06 .. .. .. 42', attributes: { 'palabre.caller': '06 .. .. .. 42', 'sip.phoneNumber': '0612345642' } },
    { name: 'Téléphone (<alice>)', attributes: { 'palabre.caller': '<alice>' } },
    { name: 'Téléphone (numéro masqué)', attributes: {} },
  ];
  return callers.map((caller) => shownName({ ...caller, kind: ParticipantKind.SIP } as Parameters<typeof shownName>[0], t));
}

it('names telephones in the language of who looks', async () => {
  expect(await names('en')).toEqual(['Telephone 06 .. .. .. 42', 'Telephone (<alice>)', 'Telephone (hidden number)']);
  expect(await names('fr')).toEqual(['Téléphone 06 .. .. .. 42', 'Téléphone (<alice>)', 'Téléphone (numéro masqué)']);
});

it('leaves the names of others alone', () => {
  const t = (() => 'never') as unknown as Parameters<typeof shownName>[1];
  const guest = { kind: ParticipantKind.STANDARD, attributes: { 'palabre.caller': '112' } };
  expect(shownName({ ...guest, name: 'Anne' }, t)).toBe('Anne');
  expect(shownName({ ...guest, name: '' }, t)).toBe('…');
});

it('says nothing French in English', () => {
  const texts = (node: object): string[] => Object.values(node).flatMap((text) => typeof text === 'object' ? texts(text) : [String(text)]);
  expect(texts(en).filter((text) => /[éèêàùçôîœ]/i.test(text.replace(/Français/g, '')))).toEqual([]);
});
