import { type ReactNode, useCallback, useEffect, useId, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { isRestarting, sentence } from '../kit/problem';

/** One subject of the page. */
export function Card({ title, children }: { title: string; children: ReactNode }) {
  const id = useId();
  return (
    <section className="card" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}

/**
 * Acts with their refusals: `act` does one at a time, `said` is what came of the last, until `forget`, for when that is no longer so.
 * `forgetRestart` is for when the box is back: what was asked and refused for another reason has to be asked again, and stays said.
 * Where the button goes away with what it did (`goes`), who works by keyboard goes on from what is said.
 */
export function useAct(onDone: () => void) {
  const { t } = useTranslation();
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<unknown>(null);
  const [done, setDone] = useState<string | null>(null);
  const [isGoing, setGoing] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  const forget = useCallback(() => { setDone(null); setRefused(null); }, []);
  const forgetRestart = useCallback(() => { setDone(null); setRefused((error: unknown) => (isRestarting(error) ? null : error)); }, []);
  useEffect(() => { if (isGoing && (done !== null || refused !== null)) place.current?.focus(); }, [isGoing, done, refused]);
  async function act(doing: () => Promise<unknown>, said?: string, goes = false) {
    setGoing(goes);
    setBusy(true);
    setRefused(null);
    setDone(null);
    try {
      await doing();
      setDone(said ?? null);
      onDone();
    } catch (error) {
      setRefused(error);
    } finally {
      setBusy(false);
    }
  }
  const said = (
    <div aria-live="polite" ref={place} tabIndex={-1}>
      {refused !== null && <p className="notice bad">{sentence(t, refused)}</p>}
      {done && <p className="notice good">{done}</p>}
    </div>
  );
  return { act, busy, said, forget, forgetRestart };
}
