import { type FormEvent, useState } from 'react';
import { Button, FieldError, Label, Text, TextArea, TextField } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Confirm } from '../kit/Confirm';
import { useLoad } from '../kit/useLoad';
import { sentence } from '../kit/problem';
import { Card, useAct } from './Card';
import { appliance, moment } from './api';

/** The certificate of the pages: whose it is, and another in its place. */
export function Certificate() {
  const { t, i18n } = useTranslation();
  const { value: certificate, error, reload } = useLoad(appliance.certificate);
  const { act, busy, said } = useAct(() => { setChain(''); setKey(''); void reload(); });
  const [chain, setChain] = useState('');
  const [key, setKey] = useState('');
  function submit(event: FormEvent) {
    event.preventDefault();
    void act(() => appliance.setCertificate(chain, key), t('appliance.saved'));
  }
  return (
    <Card title={t('appliance.certificate')}>
      {error !== null && <p className="notice bad" role="alert">{sentence(t, error)}</p>}
      {certificate && (
        <>
          {certificate.self_signed && <p className="notice">{t('appliance.selfSigned')}</p>}
          <dl className="facts">
            <div><dt>{t('appliance.names')}</dt><dd>{certificate.names.join(', ') || certificate.subject}</dd></div>
            <div><dt>{t('appliance.issuer')}</dt><dd>{certificate.issuer}</dd></div>
            <div><dt>{t('appliance.until')}</dt><dd>{moment(certificate.not_after, i18n.language)}</dd></div>
            <div><dt>{t('appliance.fingerprint')}</dt><dd className="mono break">{certificate.fingerprint}</dd></div>
          </dl>
        </>
      )}
      <form className="stack" onSubmit={submit}>
        <Pem label={t('appliance.chain')} help={t('appliance.chainHelp')} name="chain" value={chain} onChange={setChain} />
        <Pem label={t('appliance.key')} help={t('appliance.keyHelp')} name="key" value={key} onChange={setKey} />
        <div className="row">
          <Button type="submit" className="button" isDisabled={busy || !chain.trim() || !key.trim()}>{t('appliance.setCertificate')}</Button>
          <Confirm label={t('appliance.selfSign')} text={t('appliance.selfSignSure')} yes={t('appliance.selfSign')} isDisabled={busy} onYes={() => void act(appliance.selfSign, t('appliance.saved'))} />
        </div>
        {said}
      </form>
    </Card>
  );
}

function Pem({ label, help, name, value, onChange }: { label: string; help: string; name: string; value: string; onChange: (value: string) => void }) {
  return (
    <TextField className="field" name={name} value={value} onChange={onChange}>
      <Label>{label}</Label>
      <Text slot="description">{help}</Text>
      <TextArea className="pem mono" rows={4} spellCheck="false" autoComplete="off" />
      <FieldError />
    </TextField>
  );
}
