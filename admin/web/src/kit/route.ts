// Where we are, from the address bar: a handful of pages need no router library.
import { useSyncExternalStore } from 'react';

const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener('popstate', listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener('popstate', listener);
  };
}

export function useAddress(): string {
  return useSyncExternalStore(subscribe, () => location.pathname + location.hash);
}

export function go(address: string): void {
  history.pushState(null, '', address);
  window.scrollTo(0, 0);
  listeners.forEach((listener) => listener());
}
