import { type FormEvent, useEffect, useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Choice } from '../kit/Choice';
import { Field } from '../kit/Field';
import { useLoad } from '../kit/useLoad';
import { sentence } from '../kit/problem';
import { Card, useAct } from './Card';
import { type Network as Settings, type NetworkState, appliance } from './api';

/** How the box is reached. A change is tried, and kept once somebody has come through it. */
export function Network() {
  const { t } = useTranslation();
  const { value: state, error, reload } = useLoad(appliance.network, 5000);
  return (
    <Card title={t('appliance.network')}>
      {error !== null && !state && <p className="notice bad" role="alert">{sentence(t, error)}</p>}
      {state && (
        <>
          <dl className="facts">
            {state.ports.map((port) => (
              <div key={port.name}><dt>{port.name}</dt><dd className="mono">{port.addresses.join(', ') || t('appliance.noAddress')}</dd></div>
            ))}
          </dl>
          {state.tried ? <Tried state={state} reload={reload} /> : <Form kept={state.kept} reload={reload} />}
        </>
      )}
    </Card>
  );
}

function Tried({ state, reload }: { state: NetworkState; reload: () => Promise<void> }) {
  const { t } = useTranslation();
  const { act, busy, said } = useAct(() => void reload());
  const tried = state.tried;
  if (!tried) return null;
  const address = pageAt(tried.network);
  return (
    <div className="notice">
      <div className="stack">
        <p>{t('appliance.tried', { count: tried.seconds_left })}</p>
        {address && <p><a href={address}>{address}</a></p>}
        <div className="row">
          <Button className="button primary" isDisabled={busy} onPress={() => void act(appliance.confirmNetwork)}>{t('appliance.confirmNetwork')}</Button>
          <Button className="button" isDisabled={busy} onPress={() => void act(appliance.revertNetwork)}>{t('appliance.revertNetwork')}</Button>
        </div>
        {said}
      </div>
    </div>
  );
}

/** Where this page will be, when that is known. */
function pageAt(network: Settings): string | null {
  const host = network.address?.split('/')[0];
  if (!host) return null;
  const shown = host.includes(':') ? `[${host}]` : host;
  return `${location.protocol}//${shown}${location.port ? `:${location.port}` : ''}/admin/appliance`;
}

const list = (text: string) => text.split(/[\s,;]+/).filter(Boolean);

function Form({ kept, reload }: { kept: Settings; reload: () => Promise<void> }) {
  const { t } = useTranslation();
  const { act, busy, said } = useAct(() => void reload());
  const [how, setHow] = useState<'dhcp' | 'fixed'>(kept.address ? 'fixed' : 'dhcp');
  const [fields, setFields] = useState(() => texts(kept));
  // A box that has left its address answers no more: where it went must be here before.
  const [target, setTarget] = useState<string | null>(null);
  const before = JSON.stringify(kept);
  // Somebody else may have changed it.
  useEffect(() => {
    const settings = JSON.parse(before) as Settings;
    setHow(settings.address ? 'fixed' : 'dhcp');
    setFields(texts(settings));
  }, [before]);
  const field = (name: keyof typeof fields) => ({
    name: `network-${name}`, autoComplete: 'off', value: fields[name],
    onChange: (value: string) => setFields({ ...fields, [name]: value }),
  });
  function submit(event: FormEvent) {
    event.preventDefault();
    const fixed = how === 'fixed';
    const vlan = fields.vlan.trim();
    const network: Settings = {
      dhcp: fixed ? null : true,
      address: (fixed && fields.address.trim()) || null,
      gateway: (fixed && fields.gateway.trim()) || null,
      dns: list(fields.dns),
      vlan: vlan ? Number(vlan) : null,
      interface: fields.interface.trim() || null,
    };
    setTarget(pageAt(network));
    void act(() => appliance.tryNetwork(network));
  }
  return (
    <form className="stack" onSubmit={submit}>
      <Choice
        label={t('appliance.addressing')} value={how} onChange={setHow}
        options={[{ value: 'dhcp', label: t('appliance.dhcp') }, { value: 'fixed', label: t('appliance.fixed') }]}
      />
      {how === 'fixed' && (
        <>
          <Field {...field('address')} label={t('appliance.address')} help={t('appliance.addressHelp')} isRequired placeholder="192.0.2.10/24" />
          <Field {...field('gateway')} label={t('appliance.gateway')} placeholder="192.0.2.1" />
        </>
      )}
      <Field {...field('dns')} label={t('appliance.dns')} help={t('appliance.listHelp')} />
      <div className="row fields">
        <Field {...field('vlan')} label={t('appliance.vlan')} inputMode="numeric" />
        <Field {...field('interface')} label={t('appliance.interface')} help={t('appliance.interfaceHelp')} />
      </div>
      <p className="quiet">{t('appliance.networkHelp')}</p>
      <Button type="submit" className="button" isDisabled={busy}>{t('appliance.tryNetwork')}</Button>
      {said}
      <div aria-live="polite">
        {target && <p className="notice">{t('appliance.networkMoves')} <a href={target}>{target}</a></p>}
      </div>
    </form>
  );
}

function texts(network: Settings) {
  return {
    address: network.address ?? '', gateway: network.gateway ?? '', dns: network.dns.join(', '),
    vlan: network.vlan === null ? '' : String(network.vlan), interface: network.interface ?? '',
  };
}
