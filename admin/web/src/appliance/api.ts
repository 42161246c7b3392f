// The box under the program, as its page uses it.
import { call } from '../api';

export type SlotState = 'good' | 'trial' | 'bad' | 'incomplete' | 'empty';
export type Phase = 'idle' | 'verifying' | 'writing' | 'done' | 'refused';
export type Moment = 'now' | 'idle' | 'window';

export interface Slot {
  slot: string;
  runs: boolean;
  version: number | null;
  state: SlotState;
  tries_left: number | null;
  starts_next: boolean;
  code: string | null;
  why: string;
}

export interface Event {
  at: string;
  what: 'installed' | 'good' | 'bad' | 'refused' | 'previous' | 'stays' | 'restored' | 'settings-taken' | 'settings-refused';
  version: number | null;
  code: string | null;
  why: string | null;
  cause: string | null;
}

export interface Progress {
  phase: Phase;
  done: number;
  all: number;
  version: number | null;
  upload: string | null;
  refused: { code: string; title: string; detail: string } | null;
}

export interface UploadState {
  id: string;
  length: number;
  offset: number;
  metadata: string | null;
}

export interface Restart {
  when: Moment;
  from: string | null;
  to: string | null;
  force: boolean;
}

export interface State {
  host: string;
  runs: { version: number; display: string; flavour: string; arch: string; development: boolean };
  on_trial: boolean;
  protection: { secure_boot: 'on' | 'off' | 'absent'; data: 'encrypted' | 'plain' };
  slots: Slot[];
  starts_next: number | null;
  starts_once: number | null;
  last_failure: Event | null;
  install: Progress;
  upload: UploadState | null;
  restart: Restart | null;
  participants: number;
}

export interface Network {
  dhcp: boolean | null;
  address: string | null;
  gateway: string | null;
  dns: string[];
  vlan: number | null;
  interface: string | null;
}

export interface NetworkState {
  kept: Network;
  tried: { network: Network; seconds_left: number } | null;
  ports: { name: string; addresses: string[] }[];
}

export interface Time {
  ntp: string[];
  zone: string | null;
}

export interface TimeState {
  kept: Time;
  is_synchronised: boolean;
  now: string;
}

export interface Certificate {
  subject: string;
  issuer: string;
  names: string[];
  not_before: string;
  not_after: string;
  fingerprint: string;
  self_signed: boolean;
}

export interface Storage {
  bytes: number;
  bytes_free: number;
  files: number;
  files_free: number;
}

const at = (path: string) => `/appliance${path}`;

export const appliance = {
  state: () => call<State>('GET', at('')),
  history: async () => (await call<{ events: Event[] }>('GET', at('/history'))).events,
  install: (upload: string) => call<Progress>('POST', at('/install'), { upload }),
  restart: (restart: Partial<Restart>) => call<unknown>('PUT', at('/restart'), restart),
  cancelRestart: () => call<void>('DELETE', at('/restart')),
  previous: () => call<void>('POST', at('/previous')),
  stay: () => call<void>('DELETE', at('/previous')),
  shutdown: () => call<void>('POST', at('/shutdown')),
  factoryReset: (host: string) => call<void>('POST', at('/factory-reset'), { host }),
  network: () => call<NetworkState>('GET', at('/network')),
  tryNetwork: (network: Network) => call<void>('PUT', at('/network'), network),
  confirmNetwork: () => call<void>('POST', at('/network/confirm')),
  revertNetwork: () => call<void>('POST', at('/network/revert')),
  time: () => call<TimeState>('GET', at('/time')),
  setTime: (time: Time) => call<void>('PUT', at('/time'), time),
  certificate: async () => (await call<{ certificate: Certificate | null }>('GET', at('/certificate'))).certificate,
  setCertificate: (chain: string, key: string) => call<void>('PUT', at('/certificate'), { chain, key }),
  selfSign: () => call<void>('POST', at('/certificate/self-signed')),
  storage: () => call<Storage>('GET', at('/storage')),
};

/** Bytes as people read them, in MiB or GiB. */
export function size(bytes: number, language: string): string {
  const mebi = bytes / 2 ** 20;
  const [value, unit] = mebi < 1024 ? [mebi, language === 'fr' ? 'Mio' : 'MiB'] : [mebi / 1024, language === 'fr' ? 'Gio' : 'GiB'];
  return `${new Intl.NumberFormat(language, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value)} ${unit}`;
}

/** A moment as people read it. */
export function moment(text: string, language: string): string {
  return new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(text));
}
