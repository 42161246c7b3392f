import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Problem, api } from '../api';
import { Field } from '../kit/Field';
import { Page } from '../kit/Page';
import { sentence } from '../kit/problem';
import { go } from '../kit/route';

/** Another password for the administrator. Whoever is signed in anywhere has to sign in again. */
export function Password({ onChanged }: { onChanged: () => void }) {
  const { t } = useTranslation();
  const [old, setOld] = useState('');
  const [password, setPassword] = useState('');
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const [isDone, setDone] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await api.changePassword(old, password);
      setDone(true);
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  }
  if (isDone) {
    return (
      <Page title={t('password.title')}>
        <div className="card narrow">
          <h1>{t('password.title')}</h1>
          <p role="status">{t('password.done')}</p>
          <Button className="button primary" autoFocus onPress={onChanged}>{t('signIn.go')}</Button>
        </div>
      </Page>
    );
  }
  const isWeak = error instanceof Problem && error.code === 'field_invalid';
  return (
    <Page title={t('password.title')}>
      <form className="card narrow" onSubmit={submit}>
        <h1>{t('password.title')}</h1>
        <p>{t('password.lead')}</p>
        <Field label={t('password.old')} type="password" name="old" autoComplete="current-password" isRequired autoFocus value={old} onChange={setOld} error={error && !isWeak ? sentence(t, error) : null} />
        <Field label={t('password.new')} help={t('claim.passwordHelp')} type="password" name="password" autoComplete="new-password" isRequired minLength={12} value={password} onChange={setPassword} error={isWeak ? sentence(t, error) : null} />
        <div className="row">
          <Button type="submit" className="button primary" isDisabled={busy || !old || password.length < 12}>{t('password.go')}</Button>
          <Button className="button quiet" onPress={() => go('/')}>{t('home.cancel')}</Button>
        </div>
      </form>
    </Page>
  );
}
