import { type LocalAudioTrack, type LocalVideoTrack, Room, createLocalAudioTrack, createLocalVideoTrack } from 'livekit-client';
import { type FormEvent, useEffect, useRef, useState } from 'react';
import { Button, Label, ListBox, ListBoxItem, Popover, Select, SelectValue } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { type Door, type Ticket, spaced } from '../api';
import { Field } from '../kit/Field';
import { Page } from '../kit/Page';
import { CameraIcon, CameraOffIcon, MicrophoneIcon, MicrophoneOffIcon, WarningIcon } from '../kit/icons';
import { sentence } from '../kit/problem';
import { go } from '../kit/route';
import { enter, newRoom } from '../room/join';
import { Meter } from '../room/Meter';

/** What was chosen before entering. */
export interface Choice {
  name: string;
  microphone: boolean;
  camera: boolean;
  microphoneId: string | undefined;
  cameraId: string | undefined;
}

const NAME = 'palabre.name';

type Trouble = 'denied' | 'missing' | 'busy' | 'insecure';

function reason(error: unknown): Trouble {
  if (!window.isSecureContext) return 'insecure';
  const name = error instanceof DOMException || error instanceof Error ? error.name : '';
  if (name === 'NotAllowedError' || name === 'SecurityError') return 'denied';
  if (name === 'NotReadableError' || name === 'AbortError') return 'busy';
  return 'missing';
}

export function Prejoin({ door, onJoined }: { door: Door; onJoined: (ticket: Ticket, room: Room, choice: Choice) => void }) {
  const { t } = useTranslation();
  const [name, setName] = useState(localStorage.getItem(NAME) ?? '');
  const [microphone, setMicrophone] = useState(true);
  const [camera, setCamera] = useState(true);
  const [microphoneId, setMicrophoneId] = useState<string>();
  const [cameraId, setCameraId] = useState<string>();
  const [trouble, setTrouble] = useState<Trouble | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const audio = useTrack(microphone, microphoneId, setTrouble, (deviceId) => createLocalAudioTrack({ deviceId }));
  const video = useTrack(camera, cameraId, setTrouble, (deviceId) => createLocalVideoTrack({ deviceId, resolution: { width: 1280, height: 720 } }));

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    const room = newRoom();
    try {
      const ticket = await enter(door, name.trim(), room);
      localStorage.setItem(NAME, name.trim());
      onJoined(ticket, room, { name: name.trim(), microphone, camera, microphoneId, cameraId });
    } catch (e) {
      void room.disconnect();
      setError(sentence(t, e));
      setBusy(false);
    }
  }

  return (
    <Page title={t('join.title')} wide>
      <form className="prejoin" onSubmit={submit}>
        <div className="preview">
          <Preview track={camera ? video : null} off={t('join.noCamera')} />
          <div className="preview-controls">
            <Button className={microphone ? 'round' : 'round off'} aria-label={t(microphone ? 'room.microphoneOff' : 'room.microphoneOn')} onPress={() => setMicrophone(!microphone)}>
              {microphone ? <MicrophoneIcon /> : <MicrophoneOffIcon />}
            </Button>
            <Button className={camera ? 'round' : 'round off'} aria-label={t(camera ? 'room.cameraOff' : 'room.cameraOn')} onPress={() => setCamera(!camera)}>
              {camera ? <CameraIcon /> : <CameraOffIcon />}
            </Button>
          </div>
        </div>
        <div className="card">
          <h1>{t('join.title')}</h1>
          {'code' in door && <p className="quiet">{t('home.code')} <strong>{spaced(door.code)}</strong></p>}
          {trouble && <p role="alert" className="notice"><WarningIcon />{t(`join.${trouble}`)}</p>}
          <Field label={t('join.name')} help={t('join.nameHelp')} name="name" autoComplete="name" maxLength={64} isRequired value={name} onChange={setName} />
          <Devices kind="audioinput" label={t('join.microphone')} refresh={audio} value={microphoneId} onChange={setMicrophoneId} />
          <Meter label={t('join.level')} track={microphone ? audio?.mediaStreamTrack : undefined} />
          <Devices kind="videoinput" label={t('join.camera')} refresh={video} value={cameraId} onChange={setCameraId} />
          {error && <p role="alert" className="notice bad"><WarningIcon />{error}</p>}
          <div className="row">
            <Button type="submit" className="button primary" isDisabled={busy || !name.trim()}>{busy ? t('join.joining') : t('join.go')}</Button>
            <Button className="button quiet" onPress={() => go('/')}>{t('join.back')}</Button>
          </div>
        </div>
      </form>
    </Page>
  );
}

/** A local track that lives while it is wanted; the device is let go when it is not. */
function useTrack<T extends LocalAudioTrack | LocalVideoTrack>(
  wanted: boolean,
  deviceId: string | undefined,
  onTrouble: (why: Trouble | null) => void,
  open: (deviceId: string | undefined) => Promise<T>,
): T | null {
  const [track, setTrack] = useState<T | null>(null);
  useEffect(() => {
    if (!wanted) return undefined;
    let gone = false;
    let mine: T | null = null;
    open(deviceId).then(
      (opened) => {
        if (gone) opened.stop();
        else {
          mine = opened;
          setTrack(opened);
          onTrouble(null);
        }
      },
      (e: unknown) => { if (!gone) onTrouble(reason(e)); },
    );
    return () => {
      gone = true;
      mine?.stop();
      setTrack(null);
    };
    // `open` and `onTrouble` are made anew at each render and mean the same.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [wanted, deviceId]);
  return track;
}

function Preview({ track, off }: { track: LocalVideoTrack | null; off: string }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (!track || !video) return undefined;
    track.attach(video);
    return () => { track.detach(video); };
  }, [track]);
  return (
    <>
      <video ref={element} muted playsInline className="mirror" hidden={!track} />
      {!track && <p className="preview-off"><CameraOffIcon />{off}</p>}
    </>
  );
}

/** Its place is kept while there is nothing to choose from: what follows must not move under a finger. */
function Devices({ kind, label, value, onChange, refresh }: { kind: MediaDeviceKind; label: string; value: string | undefined; onChange: (id: string) => void; refresh: unknown }) {
  const { t } = useTranslation();
  const [devices, setDevices] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const load = () => void Room.getLocalDevices(kind, false).then((all) => setDevices(all.filter((d) => d.deviceId)), () => setDevices([]));
    load();
    navigator.mediaDevices?.addEventListener('devicechange', load);
    return () => navigator.mediaDevices?.removeEventListener('devicechange', load);
  }, [kind, refresh]);
  const first = devices[0];
  return (
    <Select className="field" isDisabled={!first} placeholder={t('join.noDevice')} selectedKey={value ?? first?.deviceId ?? null} onSelectionChange={(key) => onChange(String(key))}>
      <Label>{label}</Label>
      <Button className="select"><SelectValue /><span aria-hidden="true">▾</span></Button>
      <Popover className="popover">
        <ListBox>
          {devices.map((device) => <ListBoxItem key={device.deviceId} id={device.deviceId} className="option">{device.label || label}</ListBoxItem>)}
        </ListBox>
      </Popover>
    </Select>
  );
}
