// An update on its way to the box, in slices: it goes on where it was cut, also in another browser.
import { DetailedError, Upload } from 'tus-js-client';
import { Problem, refusal } from '../api';
import type { UploadState } from './api';

const PLACE = '/api/v1/appliance/uploads';

/** Bytes of one request, which has 30 s: larger wants a faster line, smaller asks more often. */
const SLICE = 4 * 2 ** 20;

/** Waits between tries, in milliseconds: a restart of the program is over within them. */
const TRIES = [0, 1000, 3000, 5000, 10_000, 20_000];

/** The file's name, as it was given when the upload began. */
export function nameOf(upload: UploadState): string | null {
  const pair = upload.metadata?.split(',').find((one) => one.trim().startsWith('filename '));
  const encoded = pair?.trim().split(' ')[1];
  if (!encoded) return null;
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0)));
  } catch {
    return null;
  }
}

/** Whether this file is the one whose upload was cut. */
export function goesOn(file: File, upload: UploadState | null): boolean {
  return upload !== null && upload.length === file.size && nameOf(upload) === file.name;
}

/** What went wrong, as a refusal of the box. */
function problem(error: Error | DetailedError): Problem {
  const response = error instanceof DetailedError ? error.originalResponse : null;
  if (!response) return new Problem('unreachable', 0, '', null);
  return refusal(response.getStatus(), response.getBody(), response.getHeader('retry-after') ?? null);
}

/** Sends `file`; `upload` is what the box has. Answers the upload's id; `cut` gets what stops it. */
export async function send(
  file: File,
  upload: UploadState | null,
  onProgress: (done: number) => void,
  cut: (stop: () => void) => void,
): Promise<string> {
  const begun = goesOn(file, upload) ? upload : null;
  if (upload && !begun) await give(upload.id);
  return new Promise((resolve, reject) => {
    const sending = new Upload(file, {
      endpoint: PLACE,
      uploadUrl: begun ? `${PLACE}/${begun.id}` : null,
      chunkSize: SLICE,
      retryDelays: TRIES,
      storeFingerprintForResuming: false,
      metadata: { filename: file.name },
      headers: { 'accept-language': document.documentElement.lang },
      onProgress,
      onError: (error) => reject(problem(error)),
      onSuccess: () => resolve(sending.url?.split('/').pop() ?? ''),
    });
    cut(() => void sending.abort().then(() => reject(new Problem('stopped', 0, '', null))));
    sending.start();
  });
}

/** Gives an upload up. */
export async function give(id: string): Promise<void> {
  const response = await fetch(`${PLACE}/${id}`, {
    method: 'DELETE',
    headers: { 'tus-resumable': '1.0.0', 'accept-language': document.documentElement.lang },
    credentials: 'same-origin',
  }).catch(() => {
    throw new Problem('unreachable', 0, '', null);
  });
  if (!response.ok && response.status !== 404) {
    throw refusal(response.status, await response.text(), response.headers.get('retry-after'));
  }
}
