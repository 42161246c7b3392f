import { type ReactNode, useCallback, useEffect, useId, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { sentence } from '../kit/problem';

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
 * Where the button goes away with what it did (`goes`), who works by keyboard goes on from what is said.
 */
export function useAct(onDone: () => void) {
  const { t } = useTranslation();
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<string | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const [isGoing, setGoing] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  const forget = useCallback(() => { setDone(null); setRefused(null); }, []);
  useEffect(() => { if (isGoing && (done || refused)) place.current?.focus(); }, [isGoing, done, refused]);
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
      setRefused(sentence(t, error));
    } finally {
      setBusy(false);
    }
  }
  const said = (
    <div aria-live="polite" ref={place} tabIndex={-1}>
      {refused && <p className="notice bad">{refused}</p>}
      {done && <p className="notice good">{done}</p>}
    </div>
  );
  return { act, busy, said, forget };
}
