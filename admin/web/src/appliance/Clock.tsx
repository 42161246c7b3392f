import { type FormEvent, useEffect, useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Field } from '../kit/Field';
import { useLoad } from '../kit/useLoad';
import { sentence } from '../kit/problem';
import { Card, useAct } from './Card';
import { type Time, appliance, moment } from './api';

/** The clock of the box: whom it asks, and where it lives. */
export function Clock() {
  const { t, i18n } = useTranslation();
  const { value: state, error, reload } = useLoad(appliance.time, 30_000);
  return (
    <Card title={t('appliance.time')}>
      {error !== null && !state && <p className="notice bad" role="alert">{sentence(t, error)}</p>}
      {state && (
        <>
          <p>{t('appliance.clock', { at: moment(state.now, i18n.language) })} {t(state.is_synchronised ? 'appliance.synchronised' : 'appliance.notSynchronised')}</p>
          <Form kept={state.kept} reload={reload} />
        </>
      )}
    </Card>
  );
}

function Form({ kept, reload }: { kept: Time; reload: () => Promise<void> }) {
  const { t } = useTranslation();
  const { act, busy, said } = useAct(() => void reload());
  const before = JSON.stringify(kept);
  const [servers, setServers] = useState('');
  const [zone, setZone] = useState('');
  useEffect(() => {
    const time = JSON.parse(before) as Time;
    setServers(time.ntp.join(', '));
    setZone(time.zone ?? '');
  }, [before]);
  function submit(event: FormEvent) {
    event.preventDefault();
    const time = { ntp: servers.split(/[\s,;]+/).filter(Boolean), zone: zone.trim() || null };
    void act(() => appliance.setTime(time), t('appliance.saved'));
  }
  return (
    <form className="stack" onSubmit={submit}>
      <Field label={t('appliance.servers')} help={t('appliance.serversHelp')} name="ntp" autoComplete="off" value={servers} onChange={setServers} />
      <Field label={t('appliance.zone')} help={t('appliance.zoneExample')} name="zone" autoComplete="off" value={zone} onChange={setZone} placeholder="UTC" />
      <Button type="submit" className="button" isDisabled={busy}>{t('appliance.save')}</Button>
      {said}
    </form>
  );
}
