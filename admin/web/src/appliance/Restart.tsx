import { useEffect, useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Check, Choice } from '../kit/Choice';
import { Confirm } from '../kit/Confirm';
import { Field } from '../kit/Field';
import { Card, useAct } from './Card';
import { type Moment, type Restart as Planned, type State, appliance } from './api';

/** Starts what starts next: now, once meetings have ended, or at night. `isAway`: the box does not answer, as while it restarts. */
export function Restart({ state, reload, isAway }: { state: State; reload: () => Promise<void>; isAway: boolean }) {
  const { t } = useTranslation();
  const [when, setWhen] = useState<Moment>('idle');
  const [from, setFrom] = useState('22:00');
  const [to, setTo] = useState('05:00');
  const [force, setForce] = useState(false);
  const { act, busy, said, forget, forgetRestart } = useAct(() => void reload());
  const isOnce = state.starts_once !== null;
  const isPlanned = state.restart !== null;
  // What was called off, and is asked for again.
  useEffect(() => { if (isOnce) forget(); }, [isOnce, forget]);
  useEffect(() => { if (isPlanned) forget(); }, [isPlanned, forget]);
  // The box is back: it restarts no more, and what was called off before may have been asked for elsewhere.
  useEffect(() => { if (!isAway) forgetRestart(); }, [isAway, forgetRestart]);
  const next = state.starts_next;
  const people = t('appliance.people', { count: state.participants });
  const now = () => void act(() => appliance.restart({ when: 'now' }), state.participants > 0 ? undefined : t('appliance.restarting'));
  const plan = () => void act(() => appliance.restart(when === 'window' ? { when, from, to, force } : { when }));
  return (
    <Card title={next ? t('appliance.startVersion', { version: next }) : t('appliance.restart')}>
      <p>{next ? t('appliance.startHelp', { version: next }) : t('appliance.restartHelp')} {people}</p>
      {state.restart && (
        <div className="notice">
          <div className="stack">
            <p>{planned(state.restart)}</p>
            <Button className="button" onPress={() => void act(appliance.cancelRestart, t('appliance.restartCancelled'), true)}>{t('appliance.cancelRestart')}</Button>
          </div>
        </div>
      )}
      {state.starts_once && (
        <div className="notice">
          <div className="stack">
            <p>{t('appliance.once', { version: state.starts_once })}</p>
            <Button className="button" isDisabled={busy} onPress={() => void act(appliance.stay, t('appliance.stayed'), true)}>{t('appliance.stay')}</Button>
          </div>
        </div>
      )}
      <Choice
        label={t('appliance.when')} value={when} onChange={setWhen}
        options={(['idle', 'window', 'now'] as const).map((value) => ({ value, label: t(`appliance.moment.${value}`) }))}
      />
      {when === 'window' && (
        <>
          <div className="row fields">
            <Field label={t('appliance.from')} name="from" value={from} onChange={setFrom} placeholder="22:00" autoComplete="off" />
            <Field label={t('appliance.to')} name="to" value={to} onChange={setTo} placeholder="05:00" autoComplete="off" />
          </div>
          <p className="quiet">{t('appliance.zoneHelp')}</p>
          <Check label={t('appliance.force')} value={force} onChange={setForce} />
        </>
      )}
      {when === 'now'
        ? <Confirm className="button primary" label={t('appliance.restartNow')} text={`${t('appliance.restartSure')} ${people}`} yes={t('appliance.restartNow')} onYes={now} isDisabled={busy} />
        : <Button className="button primary" onPress={plan} isDisabled={busy}>{t('appliance.plan')}</Button>}
      {said}
    </Card>
  );

  function planned(restart: Planned): string {
    if (restart.when !== 'window') return t(`appliance.planned.${restart.when}`);
    return t(restart.force ? 'appliance.planned.force' : 'appliance.planned.window', { from: restart.from, to: restart.to });
  }
}
