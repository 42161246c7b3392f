import { type ReactNode, useEffect } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { LANGUAGES, speak } from '../i18n';
import { go } from './route';

/** The frame of every page but the room: skip link, header with languages, landmark, title. */
export function Page({ title, children, actions, wide }: { title: string; children: ReactNode; actions?: ReactNode; wide?: boolean }) {
  const { t, i18n } = useTranslation();
  useEffect(() => {
    document.title = `${title} · Palabre`;
  }, [title]);
  return (
    <div className="page">
      <a className="skip" href="#content">{t('skip')}</a>
      <header className="header">
        <a className="brand" href="/" onClick={(e) => { e.preventDefault(); go('/'); }}>
          <img src="/icon.svg" alt="" width="32" height="32" />
          <span>Palabre</span>
        </a>
        <div className="header-actions">
          {actions}
          <div className="languages" role="group" aria-label={t('language.label')}>
            {LANGUAGES.map((language) => (
              <Button
                key={language}
                className="language"
                aria-pressed={i18n.language === language}
                aria-label={`${language.toUpperCase()} – ${t(`language.${language}`)}`}
                onPress={() => speak(language)}
              >
                <span lang={language}>{language.toUpperCase()}</span>
              </Button>
            ))}
          </div>
        </div>
      </header>
      <main id="content" tabIndex={-1} className={wide ? 'content wide' : 'content'}>{children}</main>
    </div>
  );
}
