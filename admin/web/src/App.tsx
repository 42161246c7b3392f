import { useEffect, useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { type Box, type Door, api, digits } from './api';
import { Page } from './kit/Page';
import { go, useAddress } from './kit/route';
import { sentence } from './kit/problem';
import { Appliance } from './pages/Appliance';
import { Claim } from './pages/Claim';
import { Home } from './pages/Home';
import { Meeting } from './pages/Meeting';
import { Password } from './pages/Password';
import { SignIn } from './pages/SignIn';

/** The door an address names: `/r/<slug>`, or `/c#<nine digits>` (a code stays out of requests). */
function door(path: string): Door | null {
  const slug = /^\/r\/([A-Za-z0-9_-]{8,128})$/.exec(path.split('#')[0] ?? '');
  if (slug?.[1]) return { slug: slug[1] };
  const [before, hash] = path.split('#');
  if (before === '/c' && hash && digits(hash).length === 9) return { code: digits(hash) };
  return null;
}

export function App() {
  const { t } = useTranslation();
  const address = useAddress();
  const [box, setBox] = useState<Box | null>(null);
  const [signedIn, setSignedIn] = useState(false);
  const [error, setError] = useState<unknown>(null);

  useEffect(() => {
    Promise.all([api.box(), api.signedIn()]).then(
      ([b, s]) => { setBox(b); setSignedIn(s); },
      setError,
    );
  }, []);

  const opened = useMemo(() => door(address), [address]);
  if (opened) return <Meeting key={address} door={opened} />;
  if (error) {
    return <Page title="Palabre"><p role="alert" className="notice bad">{sentence(t, error)}</p></Page>;
  }
  if (!box) return <Page title="Palabre"><p className="quiet" role="status">…</p></Page>;
  if (address.startsWith('/admin') && !signedIn) {
    return box.claimed
      ? <SignIn onDone={() => { setSignedIn(true); if (address.split('#')[0] === '/admin') go('/'); }} />
      : <Claim onDone={() => { setBox({ ...box, claimed: true }); setSignedIn(true); go('/'); }} />;
  }
  if (address.split('#')[0] === '/admin/password') {
    return <Password onChanged={() => { setSignedIn(false); go('/admin'); }} />;
  }
  if (box.appliance && address.split('#')[0] === '/admin/appliance') return <Appliance />;
  if (address.split('#')[0] === '/' || address.startsWith('/admin')) {
    return <Home box={box} signedIn={signedIn} onSignedOut={() => setSignedIn(false)} />;
  }
  return (
    <Page title={t('missing.title')}>
      <h1>{t('missing.title')}</h1>
      <p>{t('missing.lead')}</p>
    </Page>
  );
}
