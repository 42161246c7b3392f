import type { TFunction } from 'i18next';
import { type Participant, ParticipantKind } from 'livekit-client';

type Named = Pick<Participant, 'kind' | 'name' | 'attributes'>;

export function isPhone(participant: Pick<Participant, 'kind'>): boolean {
  return participant.kind === ParticipantKind.SIP;
}

/**
 * Who someone is: never the bare identity, which is for machines.
 *
 * A telephone is named in the language of whoever looks. Its name as a participant, for other programs, is in that of
 * whoever called.
 */
export function shownName(participant: Named, t: TFunction): string {
  if (!isPhone(participant)) return participant.name || '…';
  const { 'palabre.caller': caller, 'sip.phoneNumber': number } = participant.attributes;
  if (!caller) return t('room.callerHidden');
  return t(number ? 'room.callerNumber' : 'room.callerName', { caller });
}
