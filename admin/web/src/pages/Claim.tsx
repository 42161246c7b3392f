import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Problem, api } from '../api';
import { Field } from '../kit/Field';
import { Page } from '../kit/Page';
import { sentence } from '../kit/problem';

/** First run: the code on the console becomes the administrator's password. */
export function Claim({ onDone }: { onDone: () => void }) {
  const { t } = useTranslation();
  const [code, setCode] = useState('');
  const [password, setPassword] = useState('');
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await api.claim(code.trim(), password);
      onDone();
    } catch (e) {
      setError(e);
      setBusy(false);
    }
  }
  const weak = error instanceof Problem && error.code === 'field_invalid';
  return (
    <Page title={t('claim.title')}>
      <form className="card narrow" onSubmit={submit}>
        <h1>{t('claim.title')}</h1>
        <p>{t('claim.lead')}</p>
        <Field label={t('claim.code')} help={t('claim.codeHelp')} name="code" autoComplete="off" mono isRequired autoFocus value={code} onChange={setCode} error={error && !weak ? sentence(t, error) : null} />
        <Field label={t('claim.password')} help={t('claim.passwordHelp')} type="password" name="password" autoComplete="new-password" isRequired minLength={12} value={password} onChange={setPassword} error={weak ? sentence(t, error) : null} />
        <Button type="submit" className="button primary" isDisabled={busy || !code || password.length < 12}>{t('claim.go')}</Button>
      </form>
    </Page>
  );
}
