import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { api } from '../api';
import { Field } from '../kit/Field';
import { Page } from '../kit/Page';
import { sentence } from '../kit/problem';

export function SignIn({ onDone }: { onDone: () => void }) {
  const { t } = useTranslation();
  const [password, setPassword] = useState('');
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    try {
      await api.signIn(password);
      onDone();
    } catch (e) {
      setError(sentence(t, e));
      setBusy(false);
    }
  }
  return (
    <Page title={t('signIn.title')}>
      <form className="card narrow" onSubmit={submit}>
        <h1>{t('signIn.title')}</h1>
        <Field label={t('signIn.password')} type="password" name="password" autoComplete="current-password" isRequired autoFocus value={password} onChange={setPassword} error={error} />
        <Button type="submit" className="button primary" isDisabled={busy || !password}>{t('signIn.go')}</Button>
      </form>
    </Page>
  );
}
