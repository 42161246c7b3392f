/** Topic of the message by which the box announces that it restarts. */
export const RESTART = 'palabre.restart';

/** Seconds until the box restarts, as its message says; null: it does not, or the message is none of the box. */
export function secondsLeft(message: Uint8Array): number | null {
  try {
    const { seconds } = (JSON.parse(new TextDecoder().decode(message)) ?? {}) as { seconds?: unknown };
    return Number.isInteger(seconds) && (seconds as number) >= 0 ? (seconds as number) : null;
  } catch {
    return null;
  }
}
