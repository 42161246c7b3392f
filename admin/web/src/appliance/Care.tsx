import { useEffect } from 'react';
import { Label, Meter } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Confirm } from '../kit/Confirm';
import { useLoad } from '../kit/useLoad';
import { Reason } from './Versions';
import { Card, useAct } from './Card';
import { type State, appliance, moment, size } from './api';

/** How full the disk is. */
export function Storage() {
  const { t, i18n } = useTranslation();
  const { value: storage } = useLoad(appliance.storage, 60_000);
  if (!storage) return null;
  const used = storage.bytes > 0 ? (100 * (storage.bytes - storage.bytes_free)) / storage.bytes : 0;
  const known = (bytes: number) => size(bytes, i18n.language);
  return (
    <Card title={t('appliance.storage')}>
      <Meter value={used} valueLabel={t('appliance.free', { free: known(storage.bytes_free), all: known(storage.bytes) })} className="progress">
        {({ percentage, valueText }) => (
          <>
            <div className="row between"><Label>{t('appliance.data')}</Label><span className="quiet">{valueText}</span></div>
            <div className="progress-line"><div style={{ width: `${percentage}%` }} /></div>
          </>
        )}
      </Meter>
      {used > 90 && <p className="notice bad">{t('appliance.full')}</p>}
    </Card>
  );
}

/** Help, the version before, the end, and the end of the data. */
export function Care({ state, reload }: { state: State; reload: () => Promise<void> }) {
  const { t } = useTranslation();
  const { act, busy, said, forget } = useAct(() => void reload());
  const isOnce = state.starts_once !== null;
  // Called off, by whomever: what was said of it is no longer so.
  useEffect(() => { if (!isOnce) forget(); }, [isOnce, forget]);
  const other = state.slots.find((slot) => !slot.runs && slot.version !== null && (slot.state === 'good' || slot.state === 'trial'));
  return (
    <Card title={t('appliance.care')}>
      <p>{t('appliance.supportHelp')}</p>
      <a className="button" href="/api/v1/appliance/support" download="palabre-support.tar.gz">{t('appliance.support')}</a>
      <hr />
      <div className="row">
        {other && !isOnce && (
          <Confirm
            label={t('appliance.previous', { version: other.version })} text={t('appliance.previousSure', { version: other.version })}
            yes={t('appliance.previousYes')} isDisabled={busy} onYes={() => void act(appliance.previous, t('appliance.previousDone', { version: other.version }), true)}
          />
        )}
        <Confirm label={t('appliance.shutdown')} text={t('appliance.shutdownSure')} yes={t('appliance.shutdown')} isDisabled={busy} onYes={() => void act(appliance.shutdown, t('appliance.shuttingDown'))} />
        <Confirm
          className="button bad" label={t('appliance.factoryReset')} text={t('appliance.factoryResetSure', { host: state.host })}
          typed={{ label: t('appliance.typeHost', { host: state.host }), word: state.host }}
          yes={t('appliance.factoryResetYes')} isDisabled={busy} onYes={() => void act(() => appliance.factoryReset(state.host), t('appliance.restarting'))}
        />
      </div>
      {said}
    </Card>
  );
}

/** What happened to the versions. */
export function History() {
  const { t, i18n } = useTranslation();
  const { value: events } = useLoad(appliance.history, 10_000);
  return (
    <Card title={t('appliance.history')}>
      {events?.length === 0 && <p className="quiet">{t('appliance.noHistory')}</p>}
      <ul className="events">
        {events?.map((event, index) => (
          <li key={`${event.at} ${index}`}>
            <span className="quiet">{moment(event.at, i18n.language)}</span>
            <span>{t(`appliance.event.${event.what}`, { version: event.version ?? '' })} <Reason of={event} /></span>
          </li>
        ))}
      </ul>
    </Card>
  );
}
