import { type ReactNode, useCallback, useId, useState } from 'react';
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

/** Acts with their refusals: `act` does one at a time, `said` is what came of the last, until `forget`, for when that is no longer so. */
export function useAct(onDone: () => void) {
  const { t } = useTranslation();
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<string | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const forget = useCallback(() => setDone(null), []);
  async function act(doing: () => Promise<unknown>, said?: string) {
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
    <div aria-live="polite">
      {refused && <p className="notice bad">{refused}</p>}
      {done && <p className="notice good">{done}</p>}
    </div>
  );
  return { act, busy, said, forget };
}
