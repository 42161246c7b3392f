import i18next from 'i18next';
import { initReactI18next } from 'react-i18next';
import en from './en.json';
import fr from './fr.json';

export const LANGUAGES = ['fr', 'en'] as const;
export type Language = (typeof LANGUAGES)[number];

const KEY = 'palabre.language';

function preferred(): Language {
  const kept = localStorage.getItem(KEY);
  if (kept === 'fr' || kept === 'en') return kept;
  return navigator.languages.some((l) => l.toLowerCase().startsWith('fr')) || !navigator.languages.some((l) => l.toLowerCase().startsWith('en'))
    ? 'fr'
    : 'en';
}

export function speak(language: Language): void {
  localStorage.setItem(KEY, language);
  void i18next.changeLanguage(language);
}

void i18next.use(initReactI18next).init({
  resources: { fr: { translation: fr }, en: { translation: en } },
  lng: preferred(),
  fallbackLng: 'fr',
  showSupportNotice: false,
  interpolation: { escapeValue: false },
});
const label = (language: string) => {
  document.documentElement.lang = language;
};
label(i18next.language);
i18next.on('languageChanged', label);
export default i18next;
