import { type FormEvent, useCallback, useEffect, useState } from 'react';
import { Button, Dialog, DialogTrigger, Heading, Modal, ModalOverlay } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { type Box, type RoomRecord, api, digits, spaced } from '../api';
import { Field } from '../kit/Field';
import { Page } from '../kit/Page';
import { copyText } from '../kit/clipboard';
import { CheckIcon, CopyIcon, PhoneIcon } from '../kit/icons';
import { sentence } from '../kit/problem';
import { go } from '../kit/route';

export function Home({ box, signedIn, onSignedOut }: { box: Box; signedIn: boolean; onSignedOut: () => void }) {
  const { t } = useTranslation();
  const signOut = () => void api.signOut().finally(onSignedOut);
  const actions = signedIn
    ? (
      <>
        {box.appliance && <Button className="button quiet" onPress={() => go('/admin/appliance')}>{t('appliance.title')}</Button>}
        <Button className="button quiet" onPress={() => go('/admin/password')}>{t('password.title')}</Button>
        <Button className="button quiet" onPress={signOut}>{t('home.signOut')}</Button>
      </>
    )
    : <Button className="button quiet" onPress={() => go('/admin')}>{t('home.signIn')}</Button>;
  return (
    <Page title={t('home.title')} actions={actions} wide>
      <div className="hero">
        <h1>{t('home.title')}</h1>
        <p className="lead">{t('home.lead')}</p>
      </div>
      <div className="columns">
        <JoinByCode />
        {signedIn ? <CreateRoom /> : (
          <section className="card" aria-labelledby="create-title">
            <h2 id="create-title">{t('home.create')}</h2>
            <p>{t('home.createHelp')}</p>
            <p className="quiet">{t('home.signInToCreate')}</p>
            <Button className="button" onPress={() => go('/admin')}>{t('home.signIn')}</Button>
          </section>
        )}
      </div>
      {(box.phone.number ?? box.phone.sip) && (
        <p className="phone-line"><PhoneIcon /> {t('home.phone')} <strong>{box.phone.number ?? box.phone.sip}</strong></p>
      )}
      {signedIn && <Rooms box={box} />}
    </Page>
  );
}

function JoinByCode() {
  const { t } = useTranslation();
  const [code, setCode] = useState('');
  const [error, setError] = useState<string | null>(null);
  function submit(event: FormEvent) {
    event.preventDefault();
    const missing = 9 - digits(code).length;
    if (missing > 0) setError(t('home.codeShort', { count: missing }));
    else go(`/c#${digits(code)}`);
  }
  return (
    <form className="card" onSubmit={submit} aria-labelledby="join-title">
      <h2 id="join-title">{t('home.join')}</h2>
      <Field
        label={t('home.code')} help={t('home.codeHelp')} error={error} name="code" mono
        inputMode="numeric" autoComplete="off" placeholder="123 456 789"
        value={spaced(code)} onChange={(value) => { setCode(digits(value)); setError(null); }}
      />
      <Button type="submit" className="button primary">{t('home.go')}</Button>
    </form>
  );
}

const CREATED = 'palabre:room-created';

function CreateRoom() {
  const { t } = useTranslation();
  const [name, setName] = useState('');
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    try {
      await api.createRoom(name.trim());
      setName('');
      setError(null);
      window.dispatchEvent(new Event(CREATED));
    } catch (e) {
      setError(sentence(t, e));
    } finally {
      setBusy(false);
    }
  }
  return (
    <form className="card" onSubmit={submit} aria-labelledby="create-title">
      <h2 id="create-title">{t('home.create')}</h2>
      <Field label={t('home.roomName')} help={t('home.createHelp')} name="room" autoComplete="off" maxLength={120} isRequired value={name} onChange={setName} error={error} />
      <Button type="submit" className="button primary" isDisabled={busy || !name.trim()}>{t('home.createGo')}</Button>
    </form>
  );
}

function Rooms({ box }: { box: Box }) {
  const { t } = useTranslation();
  const [rooms, setRooms] = useState<RoomRecord[] | null>(null);
  const [error, setError] = useState<string | null>(null);
  const load = useCallback(() => {
    api.rooms().then((list) => { setRooms(list); setError(null); }, (e) => setError(sentence(t, e)));
  }, [t]);
  useEffect(() => {
    load();
    const timer = setInterval(load, 10_000);
    window.addEventListener(CREATED, load);
    return () => {
      clearInterval(timer);
      window.removeEventListener(CREATED, load);
    };
  }, [load]);
  return (
    <section className="rooms" aria-labelledby="rooms-title">
      <h2 id="rooms-title">{t('home.mine')}</h2>
      {error && <p role="alert" className="notice bad">{error}</p>}
      {rooms?.length === 0 && <p className="quiet">{t('home.none')}</p>}
      <ul>
        {rooms?.map((room) => <RoomRow key={room.id} room={room} box={box} onChange={load} onError={(e) => setError(sentence(t, e))} />)}
      </ul>
    </section>
  );
}

function RoomRow({ room, box, onChange, onError }: { room: RoomRecord; box: Box; onChange: () => void; onError: (e: unknown) => void }) {
  const { t } = useTranslation();
  const [copied, setCopied] = useState(false);
  async function copy() {
    const lines = [t('home.invitation', { name: room.name, link: room.link, code: spaced(room.code) })];
    const phone = box.phone.number ?? box.phone.sip;
    if (phone) lines.push(t('home.invitationPhone', { phone, code: spaced(room.code) }));
    await copyText(lines.join('\n'));
    setCopied(true);
    setTimeout(() => setCopied(false), 2500);
  }
  return (
    <li className="room-row">
      <div className="room-what">
        <h3>{room.name}</h3>
        <p className="quiet"><span className={room.participants ? 'dot live' : 'dot'} aria-hidden="true" />{t('home.people', { count: room.participants })}</p>
      </div>
      <p className="room-code mono" aria-label={`${t('room.code')} ${spaced(room.code)}`}>{spaced(room.code)}</p>
      <div className="room-acts">
        <Button className="button primary" onPress={() => go(new URL(room.link).pathname)}>{t('home.open')}</Button>
        <Button className="button" onPress={() => void copy().catch(onError)}>
          {copied ? <CheckIcon /> : <CopyIcon />}<span aria-live="polite">{copied ? t('home.copied') : t('home.copy')}</span>
        </Button>
        <Button className="button quiet" onPress={() => void api.changeCode(room.id).then(onChange, onError)}>{t('home.newCode')}</Button>
        <DialogTrigger>
          <Button className="button quiet bad">{t('home.delete')}</Button>
          <ModalOverlay className="overlay" isDismissable>
            <Modal className="modal">
              <Dialog role="alertdialog">
                {({ close }) => (
                  <>
                    <Heading slot="title">{t('home.delete')}</Heading>
                    <p>{t('home.deleteSure', { name: room.name })}</p>
                    <div className="modal-acts">
                      <Button className="button" onPress={close}>{t('home.cancel')}</Button>
                      <Button className="button danger" onPress={() => { close(); void api.deleteRoom(room.id).then(onChange, onError); }}>{t('home.deleteYes')}</Button>
                    </div>
                  </>
                )}
              </Dialog>
            </Modal>
          </ModalOverlay>
        </DialogTrigger>
      </div>
    </li>
  );
}
