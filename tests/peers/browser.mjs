// A Chromium participant driven by JSON lines: one command a line in, one answer a line out.
// {"id":1,"do":"connect","url":...} -> {"id":1,"ok":{...}} or {"id":1,"error":"..."}
// What happens in the page comes by itself: {"event":{"kind":...}}.
import { chromium } from 'playwright-core';
import { createServer } from 'node:http';
import { readFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const tone = process.argv[2];
const files = {
  '/': ['text/html', readFileSync(join(here, 'page.html'))],
  '/page.js': ['text/javascript', readFileSync(join(here, 'page.js'))],
  '/livekit-client.umd.js': ['text/javascript', readFileSync(join(here, 'node_modules/livekit-client/dist/livekit-client.umd.js'))],
};
const server = createServer((request, response) => {
  const [type, body] = files[request.url] ?? ['text/plain', 'not found'];
  response.writeHead(files[request.url] ? 200 : 404, { 'content-type': type });
  response.end(body);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const profile = mkdtempSync(join(tmpdir(), 'palabre-chromium-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1280, height: 800 },
  locale: process.env.PEER_LOCALE ?? 'fr-FR',
  permissions: [],
  // As a person who goes past the warning about a certificate that the box has signed itself.
  ignoreHTTPSErrors: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
    ...(tone ? [`--use-file-for-fake-audio-capture=${tone}`] : []),
    '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns',
    '--autoplay-policy=no-user-gesture-required',
  ],
});
const page = browser.pages()[0] ?? (await browser.newPage());
page.on('console', (message) => process.stderr.write(`[page] ${message.text()}\n`));
page.on('pageerror', (error) => process.stderr.write(`[page error] ${error}\n`));
const answer = (object) => process.stdout.write(`${JSON.stringify(object)}\n`);
await page.exposeFunction('tell', (event) => answer({ event }));
await page.goto(`http://127.0.0.1:${server.address().port}/`);

const here_commands = {
  // The product's own page instead of the bare one.
  goto: async ({ url }) => { await page.goto(url); return { title: await page.title() }; },
  screenshot: async ({ path, full = false }) => { await page.screenshot({ path, fullPage: full }); return {}; },
  click: async ({ selector }) => { await page.locator(selector).first().click({ timeout: 15000 }); return {}; },
  fill: async ({ selector, value }) => { await page.locator(selector).first().fill(value, { timeout: 15000 }); return {}; },
  choose: async ({ selector, path }) => { await page.locator(selector).first().setInputFiles(path, { timeout: 15000 }); return {}; },
  press: async ({ key }) => { await page.keyboard.press(key); return {}; },
  text: async ({ selector }) => ({ text: await page.locator(selector).first().innerText({ timeout: 15000 }) }),
  seen: async ({ selector, timeout = 15000 }) => { await page.locator(selector).first().waitFor({ timeout }); return {}; },
  cookies: async () => ({ cookies: await browser.cookies() }),
  viewport: async ({ width, height }) => { await page.setViewportSize({ width, height }); return {}; },
  // Accessibility: what axe-core finds against WCAG 2.1 A and AA; evaluated, so the page's own policy stays as it is.
  axe: async () => {
    await page.evaluate(readFileSync(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8'));
    const result = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] }));
    return result.violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.map((n) => `${n.html.slice(0, 200)} ${n.failureSummary ?? ''}`).slice(0, 5) }));
  },
  evaluate: async ({ script }) => ({ value: await page.evaluate(script) }),
};

async function perform({ do: verb, ...rest }) {
  if (here_commands[verb]) return here_commands[verb](rest);
  return page.evaluate(([v, r]) => window.peer[v](r), [verb, rest]);
}

answer({ ready: true, version: browser.browser()?.version() ?? 'chromium' });
for await (const line of createInterface({ input: process.stdin })) {
  if (!line.trim()) continue;
  const { id, ...command } = JSON.parse(line);
  if (command.do === 'quit') break;
  try {
    answer({ id, ok: await perform(command) });
  } catch (error) {
    answer({ id, error: String(error) });
  }
}
await browser.close().catch(() => {});
server.close();
rmSync(profile, { recursive: true, force: true });
process.exit(0);
