// The box's HTTP API as the pages use it. Errors are RFC 9457 problems with a stable `code`.

/** How to reach the box by telephone. */
export interface Phone {
  number: string | null;
  sip: string | null;
}

export interface Box {
  claimed: boolean;
  appliance: boolean;
  version: string;
  phone: Phone;
}

export interface RoomRecord {
  id: string;
  name: string;
  code: string;
  link: string;
  participants: number;
  created: string;
}

export interface Ticket {
  url: string;
  page: string;
  token: string;
  identity: string;
  room: { name: string; code: string };
  phone: Phone;
}

/** What opens a room: its nine digits, or the slug of its link. */
export type Door = { code: string } | { slug: string };

export class Problem extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    detail: string,
    /** Seconds before trying again makes sense. */
    readonly wait: number | null,
  ) {
    super(detail);
  }
}

/** A refusal out of an answer's status, body and `retry-after`. */
export function refusal(status: number, text: string, wait: string | null): Problem {
  let problem: { code?: string; detail?: string } = {};
  try {
    problem = (JSON.parse(text) ?? {}) as typeof problem;
  } catch {
    // Not one of ours: the status says all there is.
  }
  const seconds = Number(wait);
  return new Problem(problem.code ?? 'unknown', status, problem.detail ?? '', seconds > 0 ? seconds : null);
}

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers: {
        // Refusals come in the language of the page, not of the browser.
        'accept-language': document.documentElement.lang,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
    });
  } catch {
    throw new Problem('unreachable', 0, '', null);
  }
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  if (!response.ok) throw refusal(response.status, text, response.headers.get('retry-after'));
  try {
    return (text ? JSON.parse(text) : null) as T;
  } catch {
    return null as T;
  }
}

export const api = {
  box: () => call<Box>('GET', '/box'),
  claim: (code: string, password: string) => call<void>('POST', '/claim', { code, password }),
  signIn: (password: string) => call<void>('POST', '/session', { password }),
  changePassword: (old: string, password: string) => call<void>('PUT', '/password', { old, password }),
  signOut: () => call<void>('DELETE', '/session'),
  /** Whether this browser holds an administrator's session. */
  signedIn: async (): Promise<boolean> => {
    try {
      await call<unknown>('GET', '/session');
      return true;
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return false;
      throw error;
    }
  },
  rooms: async () => (await call<{ rooms: RoomRecord[] }>('GET', '/rooms')).rooms,
  createRoom: (name: string) => call<RoomRecord>('POST', '/rooms', { name }),
  deleteRoom: (id: string) => call<void>('DELETE', `/rooms/${encodeURIComponent(id)}`),
  changeCode: (id: string) => call<RoomRecord>('POST', `/rooms/${encodeURIComponent(id)}/code`),
  join: (door: Door, name: string) => call<Ticket>('POST', '/join', { ...door, name }),
};

/** Keeps digits only, at most nine: people paste codes with spaces, dots and dashes. */
export function digits(text: string): string {
  return text.replace(/\D/g, '').slice(0, 9);
}

/** Nine digits as people read them: `123 456 789`. */
export function spaced(code: string): string {
  return digits(code).replace(/(\d{3})(?=\d)/g, '$1 ').trim();
}

/** The address that opens the same room for others: a code stays behind `#`, out of every request. */
export function address(page: string, door: Door): string {
  return 'slug' in door ? `${page}/r/${door.slug}` : `${page}/c#${door.code}`;
}
