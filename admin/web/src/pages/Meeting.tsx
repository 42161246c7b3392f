import { type Room as LiveKitRoom, DisconnectReason } from 'livekit-client';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import type { Door, Ticket } from '../api';
import { Page } from '../kit/Page';
import { go } from '../kit/route';
import { Room } from '../room/Room';
import { type Choice, Prejoin } from './Prejoin';

type Stage =
  | { at: 'door' }
  | { at: 'room'; ticket: Ticket; room: LiveKitRoom; choice: Choice }
  | { at: 'left'; reason: DisconnectReason | undefined };

/** From the door to the goodbye: device choice, the room, the page after it. */
export function Meeting({ door }: { door: Door }) {
  const { t } = useTranslation();
  const [stage, setStage] = useState<Stage>({ at: 'door' });
  if (stage.at === 'room') {
    return (
      <Room
        ticket={stage.ticket} room={stage.room} door={door} choice={stage.choice}
        onLeft={(reason) => setStage({ at: 'left', reason })}
      />
    );
  }
  if (stage.at === 'left') {
    const why = {
      [DisconnectReason.PARTICIPANT_REMOVED]: t('left.removed'),
      [DisconnectReason.ROOM_DELETED]: t('left.deleted'),
      [DisconnectReason.DUPLICATE_IDENTITY]: t('left.duplicate'),
      [DisconnectReason.JOIN_FAILURE]: t('problem.room_full'),
    }[stage.reason as number];
    return (
      <Page title={t('left.title')}>
        <div className="card narrow">
          <h1>{t('left.title')}</h1>
          {why && <p role="status">{why}</p>}
          <div className="row">
            <Button className="button primary" onPress={() => setStage({ at: 'door' })}>{t('left.again')}</Button>
            <Button className="button" onPress={() => go('/')}>{t('left.home')}</Button>
          </div>
        </div>
      </Page>
    );
  }
  return <Prejoin door={door} onJoined={(ticket, room, choice) => setStage({ at: 'room', ticket, room, choice })} />;
}
