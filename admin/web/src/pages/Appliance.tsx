import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Care, History, Storage } from '../appliance/Care';
import { Certificate } from '../appliance/Certificate';
import { Clock } from '../appliance/Clock';
import { Network } from '../appliance/Network';
import { Restart } from '../appliance/Restart';
import { Update } from '../appliance/Update';
import { Versions } from '../appliance/Versions';
import { appliance } from '../appliance/api';
import { Page } from '../kit/Page';
import { sentence } from '../kit/problem';
import { go } from '../kit/route';
import { useLoad } from '../kit/useLoad';

/** Between two looks at the box, in milliseconds: often enough to see an installation move. */
const LOOK = 2000;

/** The box for its administrator. */
export function Appliance() {
  const { t } = useTranslation();
  const { value: state, error, reload } = useLoad(appliance.state, LOOK);
  const actions = <Button className="button quiet" onPress={() => go('/')}>{t('appliance.back')}</Button>;
  return (
    <Page title={t('appliance.title')} actions={actions} wide>
      <div className="hero">
        <h1>{t('appliance.title')}</h1>
        {state && <p className="lead">{t('appliance.lead', { host: state.host })}</p>}
      </div>
      {error !== null && <p className="notice bad" role="alert">{sentence(t, error)}</p>}
      {!state && error === null && <p className="quiet" role="status">…</p>}
      {state && (
        <div className="columns pair">
          <Versions state={state} />
          <Update state={state} reload={reload} />
          <Restart state={state} reload={reload} isAway={error !== null} />
          <Network />
          <Clock />
          <Certificate />
          <Storage />
          <Care state={state} reload={reload} />
          <History />
        </div>
      )}
    </Page>
  );
}
