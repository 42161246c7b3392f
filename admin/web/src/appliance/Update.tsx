import { useRef, useState } from 'react';
import { Button, FileTrigger, Label, ProgressBar } from 'react-aria-components';
import { useTranslation } from 'react-i18next';
import { Problem } from '../api';
import { sentence } from '../kit/problem';
import { Card } from './Card';
import { type Phase, type State, appliance, size } from './api';
import { give, nameOf, send } from './upload';

/** Brings a new version: upload, installation, and what came of them. */
export function Update({ state, reload }: { state: State; reload: () => Promise<void> }) {
  const { t, i18n } = useTranslation();
  const [sending, setSending] = useState<{ name: string; done: number; all: number } | null>(null);
  const [error, setError] = useState<string | null>(null);
  const stop = useRef<() => void>(() => {});
  const { install, upload } = state;
  // What the box refused is of no use any more, whatever its name.
  const kept = upload && !(install.phase === 'refused' && install.upload === upload.id) ? upload : null;
  const installs = install.phase === 'verifying' || install.phase === 'writing';
  const known = (bytes: number) => size(bytes, i18n.language);

  async function bring(file: File) {
    setError(null);
    setSending({ name: file.name, done: 0, all: file.size });
    try {
      if (upload && !kept) await give(upload.id);
      const id = await send(file, kept, (done) => setSending({ name: file.name, done, all: file.size }), (cut) => { stop.current = cut; });
      await appliance.install(id);
    } catch (e) {
      if (!(e instanceof Problem && e.code === 'stopped')) setError(sentence(t, e));
    } finally {
      setSending(null);
      await reload();
    }
  }
  async function act(doing: () => Promise<unknown>) {
    setError(null);
    try {
      await doing();
    } catch (e) {
      setError(sentence(t, e));
    } finally {
      await reload();
    }
  }
  return (
    <Card title={t('appliance.update')}>
      <p>{t('appliance.updateHelp')}</p>
      {!sending && !installs && (
        <FileTrigger acceptedFileTypes={['.plbu']} onSelect={(files) => { const file = files?.[0]; if (file) void bring(file); }}>
          <Button className="button primary">{t('appliance.choose')}</Button>
        </FileTrigger>
      )}
      {sending && (
        <>
          <Bar label={t('appliance.sending', { name: sending.name })} done={sending.done} all={sending.all} text={`${known(sending.done)} / ${known(sending.all)}`} />
          <Button className="button" onPress={() => stop.current()}>{t('appliance.pause')}</Button>
        </>
      )}
      {!sending && !installs && kept && (
        <div className="notice">
          <div className="stack">
            <p>{t(kept.offset < kept.length ? 'appliance.halfSent' : 'appliance.sent', { name: nameOf(kept) ?? kept.id, done: known(kept.offset), all: known(kept.length) })}</p>
            <div className="row">
              {kept.offset === kept.length && <Button className="button" onPress={() => void act(() => appliance.install(kept.id))}>{t('appliance.install')}</Button>}
              <Button className="button" onPress={() => void act(() => give(kept.id))}>{t('appliance.giveUp')}</Button>
            </div>
          </div>
        </div>
      )}
      {installs && <Bar label={t(`appliance.phase.${install.phase}`)} done={install.done} all={install.all} text={`${known(install.done)} / ${known(install.all)}`} />}
      <div aria-live="polite">
        <Outcome phase={install.phase} version={install.version} next={state.starts_next} />
        {install.phase === 'refused' && install.refused && (
          <p className="notice bad"><span><strong>{install.refused.title}.</strong> {install.refused.detail}</span></p>
        )}
        {error && <p className="notice bad">{error}</p>}
      </div>
    </Card>
  );
}

function Outcome({ phase, version, next }: { phase: Phase; version: number | null; next: number | null }) {
  const { t } = useTranslation();
  if (phase === 'done' && version === next) return <p className="notice good">{t('appliance.installed', { version })}</p>;
  return null;
}

function Bar({ label, done, all, text }: { label: string; done: number; all: number; text: string }) {
  return (
    <ProgressBar value={all > 0 ? (100 * done) / all : 0} valueLabel={text} isIndeterminate={all === 0} className="progress">
      {({ percentage, valueText }) => (
        <>
          <div className="row between"><Label>{label}</Label><span className="quiet">{valueText}</span></div>
          <div className="progress-line"><div style={{ width: `${percentage ?? 0}%` }} /></div>
        </>
      )}
    </ProgressBar>
  );
}
