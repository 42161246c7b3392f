import { useTranslation } from 'react-i18next';
import { Card } from './Card';
import { type Slot, type State, moment } from './api';

/** Which version runs, and what both slots hold. */
export function Versions({ state }: { state: State }) {
  const { t, i18n } = useTranslation();
  const { runs, slots, last_failure: failure } = state;
  return (
    <Card title={t('appliance.versions')}>
      <p><strong>Palabre {runs.display}</strong> <span className="quiet">{runs.flavour}, {runs.arch}</span></p>
      {runs.development && <p className="notice bad">{t('appliance.development')}</p>}
      {state.on_trial && <p className="notice">{t('appliance.onTrial')}</p>}
      {failure && (
        <p className="notice">
          <span>{t('appliance.failed', { version: failure.version, at: moment(failure.at, i18n.language) })} <Reason of={failure} /></span>
        </p>
      )}
      <table className="table">
        <caption className="unseen">{t('appliance.slots')}</caption>
        <thead>
          <tr><th scope="col">{t('appliance.slot')}</th><th scope="col">{t('appliance.version')}</th><th scope="col">{t('appliance.what')}</th></tr>
        </thead>
        <tbody>
          {slots.map((slot) => (
            <tr key={slot.slot}>
              <th scope="row">{slot.slot}</th>
              <td>{slot.version ?? '–'}</td>
              <td>
                {words(slot).map((word) => t(`appliance.state.${word}`, { count: slot.tries_left ?? 0 })).join(', ')}
                <p className="quiet"><Reason of={slot} /></p>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="quiet">{t(`appliance.secureBoot.${state.protection.secure_boot}`)} {t(`appliance.dataAre.${state.protection.data}`)}</p>
    </Card>
  );
}

function words(slot: Slot): string[] {
  return [slot.state, ...(slot.runs ? ['runs'] : []), ...(slot.starts_next ? ['next'] : [])];
}

/** Why: ours in the reader's language, the box's own words as they are. */
export function Reason({ of: { code, why } }: { of: { code: string | null; why: string | null } }) {
  if (!why) return null;
  return code ? <span>{why}</span> : <span lang="en">{why}</span>;
}
