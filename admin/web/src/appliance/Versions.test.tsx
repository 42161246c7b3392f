import { createInstance } from 'i18next';
import type { ReactNode } from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { I18nextProvider, initReactI18next } from 'react-i18next';
import { expect, it } from 'vitest';
import fr from '../i18n/fr.json';
import { Care } from './Care';
import { Restart } from './Restart';
import { Versions } from './Versions';
import type { Slot, State } from './api';

const slot: Slot = {
  slot: 'A', runs: true, version: 1, state: 'good', tries_left: null, starts_next: true,
  code: 'slot_newest', why: "C'est la plus récente qui n'a pas échoué.",
};
const state: State = {
  host: 'palabre-test', runs: { version: 1, display: '1', flavour: 'core', arch: 'amd64', development: false },
  on_trial: false, protection: { secure_boot: 'on', data: 'encrypted' },
  slots: [slot, { ...slot, slot: 'B', runs: false, starts_next: false, code: null, why: 'version 3 is odd' }],
  starts_next: null, starts_once: null, install: { phase: 'idle', done: 0, all: 0, version: null, upload: null, refused: null },
  upload: null, restart: null, participants: 0,
  last_failure: {
    at: '2026-11-28T12:00:00Z', what: 'bad', version: 2, code: 'trial_mixer_sound',
    why: "Pendant l'appel d'essai, le téléphone n'a pas entendu l'invité.", cause: 'call: the call failed: mixer-sound: silence',
  },
};

function html(page: ReactNode): string {
  const i18n = createInstance();
  void i18n.use(initReactI18next).init({ lng: 'fr', resources: { fr: { translation: fr } }, initAsync: false });
  return renderToStaticMarkup(<I18nextProvider i18n={i18n}>{page}</I18nextProvider>).replaceAll('&#x27;', "'");
}

it('offers the way back, or to call it off once it was asked for', () => {
  const both = (of: State) => html(<><Restart state={of} reload={() => Promise.resolve()} isAway={false} /><Care state={of} reload={() => Promise.resolve()} /></>);
  const other = { ...slot, slot: 'B', runs: false, version: 2, starts_next: false };
  const before = both({ ...state, slots: [slot, other] });
  expect(before).toContain('Revenir à la version 2');
  expect(before).not.toContain('Annuler ce retour');
  const asked = both({ ...state, slots: [slot, other], starts_next: 2, starts_once: 2 });
  expect(asked).toContain('Le retour à la version 2 a été demandé.');
  expect(asked).toContain('Annuler ce retour');
  expect(asked).toContain('Démarrer la version 2');
  expect(asked).not.toContain('Revenir à la version 2');
});

it('says why a version failed and why each slot starts or does not', () => {
  const said = html(<Versions state={state} />);
  expect(said).toContain("<span>Pendant l'appel d'essai, le téléphone n'a pas entendu l'invité.</span>");
  expect(said).toContain("<span>C'est la plus récente qui n'a pas échoué.</span>");
  // What we have no words for is read aloud as the English it is.
  expect(said).toContain('<span lang="en">version 3 is odd</span>');
});
