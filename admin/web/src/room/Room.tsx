import { ConnectionState, DisconnectReason, type Room as LiveKitRoom, type RemoteParticipant, RoomEvent } from 'livekit-client';
import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import { Button, ToggleButton } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { type Door, type Ticket, address, spaced } from '../api';
import { copyText } from '../kit/clipboard';
import { CameraIcon, CameraOffIcon, CheckIcon, CloseIcon, CopyIcon, InviteIcon, LeaveIcon, MicrophoneIcon, MicrophoneOffIcon, PeopleIcon, PhoneIcon, WarningIcon } from '../kit/icons';
import { isFull } from '../kit/problem';
import type { Choice } from '../pages/Prejoin';
import { again, enter } from './join';
import { RESTART, secondsLeft } from './restart';
import { isPhone, shownName } from './name';
import { Tile, Voice } from './Tile';
import { columns, useParticipants } from './useParticipants';

type Panel = 'invite' | 'people' | null;

/** Reasons after which coming back by ourselves would be against somebody's will. */
const FINAL = new Set<DisconnectReason | undefined>([
  DisconnectReason.CLIENT_INITIATED, DisconnectReason.DUPLICATE_IDENTITY,
  DisconnectReason.PARTICIPANT_REMOVED, DisconnectReason.ROOM_DELETED,
]);

/** Longest wait between two tries to come back: longer spares the box, shorter spares the person. */
const LONGEST_WAIT_MS = 8_000;

export function Room({ ticket, room, door, choice, onLeft }: { ticket: Ticket; room: LiveKitRoom; door: Door; choice: Choice; onLeft: (reason: DisconnectReason | undefined) => void }) {
  const { t } = useTranslation();
  const { people, state, canPlay } = useParticipants(room);
  const [panel, setPanel] = useState<Panel>(null);
  const [said, setSaid] = useState('');
  const [away, setAway] = useState(false);
  const [restart, setRestart] = useState<number | null>(null);
  const local = room.localParticipant;
  // What this person last asked for: coming back must never open a microphone that was shut.
  const wish = useRef({ microphone: choice.microphone, camera: choice.camera });
  const turnMicrophone = (on: boolean) => {
    wish.current.microphone = on;
    void local.setMicrophoneEnabled(on, { deviceId: choice.microphoneId }).catch(() => undefined);
  };
  const turnCamera = (on: boolean) => {
    wish.current.camera = on;
    void local.setCameraEnabled(on, { deviceId: choice.cameraId }).catch(() => undefined);
  };

  useEffect(() => {
    document.title = `${ticket.room.name} · Palabre`;
  }, [ticket.room.name]);

  useEffect(() => {
    void publish(room, choice);
  }, [room, choice]);

  useEffect(() => {
    let over = false;
    const joined = (p: RemoteParticipant) => setSaid(t('room.joined', { name: shownName(p, t) }));
    const gone = (p: RemoteParticipant) => setSaid(t('room.gone', { name: shownName(p, t) }));
    const back = () => { setAway(false); setRestart(null); setSaid(t('room.reconnected')); };
    // Of the box itself: what a participant says has a participant.
    const told = (payload: Uint8Array, from?: RemoteParticipant, _kind?: unknown, topic?: string) => {
      if (topic === RESTART && !from) setRestart(secondsLeft(payload));
    };
    // livekit-client tries by itself first; when it gives up, a fresh token is asked for.
    const lost = async (reason?: DisconnectReason) => {
      if (over) return;
      if (FINAL.has(reason)) {
        onLeft(reason);
        return;
      }
      setAway(true);
      setRestart(null);
      for (let wait = 500; !over; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
        await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
        if (over) return;
        try {
          await enter(door, choice.name, room);
          await publish(room, { ...choice, ...wish.current });
          back();
          return;
        } catch (error) {
          const verdict = again(error);
          if (verdict === 'never') {
            onLeft(isFull(error) ? DisconnectReason.JOIN_FAILURE : DisconnectReason.ROOM_DELETED);
            return;
          }
          wait = Math.max(wait, verdict);
        }
      }
    };
    room.on(RoomEvent.ParticipantConnected, joined).on(RoomEvent.ParticipantDisconnected, gone)
      .on(RoomEvent.Reconnected, back).on(RoomEvent.Disconnected, lost).on(RoomEvent.DataReceived, told);
    return () => {
      over = true;
      room.off(RoomEvent.ParticipantConnected, joined).off(RoomEvent.ParticipantDisconnected, gone)
        .off(RoomEvent.Reconnected, back).off(RoomEvent.Disconnected, lost).off(RoomEvent.DataReceived, told);
    };
  }, [room, door, choice, onLeft, t]);

  const grid = useRef<HTMLUListElement>(null);
  const [across, setAcross] = useState(1);
  useLayoutEffect(() => {
    const element = grid.current;
    if (!element) return undefined;
    const measure = () => setAcross(columns(people.length, element.clientWidth / Math.max(1, element.clientHeight)));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [people.length, panel]);

  const interrupted = away || state === ConnectionState.Reconnecting || state === ConnectionState.SignalReconnecting;
  return (
    <div className="room">
      <header className="room-bar">
        <h1>{ticket.room.name}</h1>
        <p className="mono">{spaced(ticket.room.code)}</p>
      </header>
      <p className="unseen" role="status" aria-live="polite">{said}</p>
      {interrupted && <p role="alert" className="banner"><WarningIcon />{t('room.reconnecting')}</p>}
      {restart !== null && !interrupted && <p role="alert" className="banner"><WarningIcon />{t('room.restart', { count: restart })}</p>}
      {!canPlay && (
        <p className="banner">
          {t('room.listenHelp')} <Button className="button" onPress={() => void room.startAudio()}>{t('room.listen')}</Button>
        </p>
      )}
      <main className="stage">
        <ul ref={grid} className="tiles" aria-label={t('room.tiles')} style={{ '--across': across, '--down': Math.ceil(people.length / across) } as React.CSSProperties}>
          {people.map((participant) => <Tile key={participant.sid || participant.identity} participant={participant} />)}
        </ul>
        {panel && (
          <aside className="panel" aria-label={t(panel === 'invite' ? 'room.info' : 'room.people')}>
            <div className="panel-head">
              <h2>{panel === 'invite' ? t('room.info') : `${t('room.people')} (${people.length})`}</h2>
              <Button className="round small" aria-label={t('room.close')} onPress={() => setPanel(null)}><CloseIcon /></Button>
            </div>
            {panel === 'invite' ? <Invite ticket={ticket} door={door} /> : (
              <ul className="people">
                {people.map((p) => (
                  <li key={p.sid || p.identity}>
                    {isPhone(p) && <PhoneIcon />}<span>{p.isLocal ? t('room.you', { name: shownName(p, t) }) : shownName(p, t)}</span>
                    {!p.isMicrophoneEnabled && <span className="people-muted"><MicrophoneOffIcon /><span className="unseen">{t('room.muted')}</span></span>}
                  </li>
                ))}
              </ul>
            )}
          </aside>
        )}
      </main>
      {people.filter((p) => !p.isLocal).map((p) => <Voice key={p.sid} participant={p} />)}
      {people.length === 1 && !panel && !interrupted && restart === null && (
        <div className="alone"><p>{t('room.alone')}</p><Invite ticket={ticket} door={door} /></div>
      )}
      <footer className="controls" role="toolbar" aria-label={t('room.controls')}>
        <ToggleButton className={local.isMicrophoneEnabled ? 'round' : 'round off'} isSelected={local.isMicrophoneEnabled} aria-label={t(local.isMicrophoneEnabled ? 'room.microphoneOff' : 'room.microphoneOn')} onChange={turnMicrophone}>
          {local.isMicrophoneEnabled ? <MicrophoneIcon /> : <MicrophoneOffIcon />}
        </ToggleButton>
        <ToggleButton className={local.isCameraEnabled ? 'round' : 'round off'} isSelected={local.isCameraEnabled} aria-label={t(local.isCameraEnabled ? 'room.cameraOff' : 'room.cameraOn')} onChange={turnCamera}>
          {local.isCameraEnabled ? <CameraIcon /> : <CameraOffIcon />}
        </ToggleButton>
        <ToggleButton className="round" isSelected={panel === 'invite'} aria-label={t('room.info')} onChange={(on) => setPanel(on ? 'invite' : null)}><InviteIcon /></ToggleButton>
        <ToggleButton className="round" isSelected={panel === 'people'} aria-label={`${t('room.people')} (${people.length})`} onChange={(on) => setPanel(on ? 'people' : null)}><PeopleIcon /></ToggleButton>
        <Button className="round leave" aria-label={t('room.leave')} onPress={() => void room.disconnect()}><LeaveIcon /></Button>
      </footer>
    </div>
  );
}

async function publish(room: LiveKitRoom, choice: Choice): Promise<void> {
  const local = room.localParticipant;
  // One device that fails must not keep the other from working.
  if (choice.microphone) await local.setMicrophoneEnabled(true, { deviceId: choice.microphoneId }).catch(() => undefined);
  if (choice.camera) await local.setCameraEnabled(true, { deviceId: choice.cameraId }).catch(() => undefined);
}

/** The doors of this room, to read out or to copy. */
function Invite({ ticket, door }: { ticket: Ticket; door: Door }) {
  const { t } = useTranslation();
  const { code } = ticket.room;
  const { number, sip } = ticket.phone;
  // A box that went back to its version before names none.
  const link = address(ticket.page || location.origin, door);
  const [copied, setCopied] = useState(false);
  async function copy() {
    await copyText(`${link}\n${t('room.code')} ${spaced(code)}`);
    setCopied(true);
    setTimeout(() => setCopied(false), 2500);
  }
  return (
    <dl className="invite">
      <dt>{t('room.link')}</dt>
      <dd>
        <span className="link">{link}</span>
        <Button className="round small" aria-label={copied ? t('home.copied') : t('home.copy')} onPress={() => void copy().catch(() => setCopied(false))}>
          {copied ? <CheckIcon /> : <CopyIcon />}
        </Button>
      </dd>
      <dt>{t('room.code')}</dt>
      <dd className="mono big">{spaced(code)}</dd>
      {number && (<><dt>{t('room.phone')}</dt><dd><strong>{number}</strong><br /><span className="quiet">{t('room.phoneHelp')}</span></dd></>)}
      {sip && (<><dt>{t('room.sip')}</dt><dd className="mono">{sip.replace(/^(sips?:)?[^@]*@?/, `$1${code}@`)}</dd></>)}
    </dl>
  );
}
