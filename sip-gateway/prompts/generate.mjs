// Speaks phrases.json with the SVOX Pico voices and writes fr/*.wav and en/*.wav (16 kHz, 16 bit, mono).
// Usage: npm ci && node generate.mjs --voices DIR [--only NAME]
// DIR holds fr-FR_ta.bin, fr-FR_nk0_sg.bin, en-GB_ta.bin, en-GB_kh0_sg.bin (Apache-2.0, see ATTRIBUTION.md).
// Run offline, by hand; the build never runs it: the files it wrote are what the program embeds.
import SvoxPico from '@echogarden/svoxpico-wasm'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const RATE = 16000
const FRAME = RATE / 50
// Speech level in dB relative to full scale, measured on the frames that hold speech: what phone networks carry.
const SPEECH_LEVEL = -23
// Sample peaks stay below this, so that resampling and G.711 never clip.
const PEAK_CEILING = -6
// Frames this far under the loudest one count as silence.
const SILENCE_BELOW = 45
// Silence kept before and after speech, seconds: long enough not to bite a consonant.
const LEAD = 0.02
const TAIL = 0.06
// Pico reads a little fast for a telephone; its scale is 20 to 500, 100 is its own pace.
const SPEED = 88
const VOICES = {
  fr: { analysis: 'fr-FR_ta.bin', signal: 'fr-FR_nk0_sg.bin' },
  en: { analysis: 'en-GB_ta.bin', signal: 'en-GB_kh0_sg.bin' },
}
const PICO_STEP_BUSY = 201

const here = dirname(fileURLToPath(import.meta.url))
const { values } = parseArgs({ options: { voices: { type: 'string' }, only: { type: 'string' } } })
if (!values.voices) {
  console.error('usage: node generate.mjs --voices DIR [--only NAME]')
  process.exit(2)
}

/** One Pico engine with one voice; say() returns float samples at 16 kHz. */
class Speaker {
  static async open(voice, directory) {
    const speaker = new Speaker()
    const pico = (speaker.pico = await SvoxPico())
    speaker.arena = pico._malloc(8 << 20)
    speaker.cell = pico._malloc(16)
    speaker.check(pico._pico_initialize(speaker.arena, 8 << 20, speaker.cell), 'initialize')
    speaker.system = pico.HEAPU32[speaker.cell >> 2]
    const name = speaker.string('voice')
    speaker.check(pico._pico_createVoiceDefinition(speaker.system, name), 'voice')
    for (const file of [voice.analysis, voice.signal]) {
      pico.FS.writeFile(`/${file}`, readFileSync(join(directory, file)))
      const path = speaker.string(`/${file}`)
      speaker.check(pico._pico_loadResource(speaker.system, path, speaker.cell), file)
      const resource = pico.HEAPU32[speaker.cell >> 2]
      const label = pico._malloc(64)
      speaker.check(pico._pico_getResourceName(speaker.system, resource, label), file)
      speaker.check(pico._pico_addResourceToVoiceDefinition(speaker.system, name, label), file)
    }
    speaker.check(pico._pico_newEngine(speaker.system, name, speaker.cell), 'engine')
    speaker.engine = pico.HEAPU32[speaker.cell >> 2]
    return speaker
  }

  say(text) {
    const pico = this.pico
    const bytes = Buffer.from(`<speed level='${SPEED}'>${text}</speed>\0`, 'utf8')
    const block = pico._malloc(bytes.length)
    pico.HEAPU8.set(bytes, block)
    const out = pico._malloc(4096)
    const samples = []
    let sent = 0
    for (let status = PICO_STEP_BUSY; sent < bytes.length || status === PICO_STEP_BUSY; ) {
      if (sent < bytes.length) {
        this.check(pico._pico_putTextUtf8(this.engine, block + sent, bytes.length - sent, this.cell), 'text')
        sent += pico.HEAP16[this.cell >> 1]
      }
      do {
        status = pico._pico_getData(this.engine, out, 4096, this.cell, this.cell + 4)
        if (status < 0) this.check(status, 'speech')
        const got = pico.HEAP16[this.cell >> 1] >> 1
        for (let i = 0; i < got; i++) samples.push(pico.HEAP16[(out >> 1) + i] / 32768)
      } while (status === PICO_STEP_BUSY)
    }
    pico._free(block)
    pico._free(out)
    return Float64Array.from(samples)
  }

  string(text) {
    const bytes = Buffer.from(`${text}\0`, 'utf8')
    const at = this.pico._malloc(bytes.length)
    this.pico.HEAPU8.set(bytes, at)
    return at
  }

  check(status, what) {
    if (status !== 0) throw new Error(`pico: ${what}: status ${status}`)
  }
}

const decibel = (amplitude) => 20 * Math.log10(Math.max(amplitude, 1e-9))
const amplitude = (db) => 10 ** (db / 20)

function frameLevels(samples) {
  const levels = []
  for (let at = 0; at < samples.length; at += FRAME) {
    const frame = samples.subarray(at, Math.min(at + FRAME, samples.length))
    levels.push(decibel(Math.sqrt(frame.reduce((sum, x) => sum + x * x, 0) / frame.length)))
  }
  return levels
}

function trim(samples) {
  const levels = frameLevels(samples)
  const floor = levels.reduce((a, b) => Math.max(a, b), -200) - SILENCE_BELOW
  const first = levels.findIndex((level) => level > floor)
  const last = levels.findLastIndex((level) => level > floor)
  const from = Math.max(0, first * FRAME - Math.round(LEAD * RATE))
  const to = Math.min(samples.length, (last + 1) * FRAME + Math.round(TAIL * RATE))
  const cut = samples.slice(from, to)
  const ramp = Math.round(0.01 * RATE)
  for (let i = 0; i < ramp; i++) {
    const gain = 0.5 - 0.5 * Math.cos((Math.PI * i) / ramp)
    cut[i] *= gain
    cut[cut.length - 1 - i] *= gain
  }
  return cut
}

// Second-order Butterworth high-pass: what is below 200 Hz no telephone carries, and it costs level.
function highPass(samples, hertz) {
  const w = (2 * Math.PI * hertz) / RATE
  const alpha = Math.sin(w) / Math.SQRT2
  const cos = Math.cos(w)
  const a0 = 1 + alpha
  const b = [(1 + cos) / 2 / a0, -(1 + cos) / a0, (1 + cos) / 2 / a0]
  const a = [(-2 * cos) / a0, (1 - alpha) / a0]
  let [x1, x2, y1, y2] = [0, 0, 0, 0]
  return samples.map((x) => {
    const y = b[0] * x + b[1] * x1 + b[2] * x2 - a[0] * y1 - a[1] * y2
    ;[x2, x1, y2, y1] = [x1, x, y1, y]
    return y
  })
}

function speechLevel(samples) {
  const levels = frameLevels(samples)
  const floor = Math.max(...levels) - SILENCE_BELOW
  const spoken = levels.filter((level) => level > floor).map((level) => amplitude(level) ** 2)
  return 10 * Math.log10(spoken.reduce((a, b) => a + b, 0) / spoken.length)
}

// Instant-attack, 60 ms release gain: takes the few samples over the ceiling down without a click.
function limit(samples, ceiling) {
  const release = Math.exp(-1 / (0.06 * RATE))
  const ahead = Math.round(0.003 * RATE)
  let gain = 1
  return samples.map((x, i) => {
    let peak = 0
    for (let j = i; j < Math.min(i + ahead, samples.length); j++) peak = Math.max(peak, Math.abs(samples[j]))
    const wanted = peak > ceiling ? ceiling / peak : 1
    gain = wanted < gain ? wanted : 1 - (1 - gain) * release > wanted ? wanted : 1 - (1 - gain) * release
    return x * gain
  })
}

function wav(samples) {
  const out = Buffer.alloc(44 + samples.length * 2)
  out.write('RIFF', 0)
  out.writeUInt32LE(36 + samples.length * 2, 4)
  out.write('WAVEfmt ', 8)
  out.writeUInt32LE(16, 16)
  out.writeUInt16LE(1, 20)
  out.writeUInt16LE(1, 22)
  out.writeUInt32LE(RATE, 24)
  out.writeUInt32LE(RATE * 2, 28)
  out.writeUInt16LE(2, 32)
  out.writeUInt16LE(16, 34)
  out.write('data', 36)
  out.writeUInt32LE(samples.length * 2, 40)
  samples.forEach((x, i) => out.writeInt16LE(Math.max(-32768, Math.min(32767, Math.round(x * 32768))), 44 + i * 2))
  return out
}

const phrases = JSON.parse(readFileSync(join(here, 'phrases.json'), 'utf8'))
let bytes = 0
for (const [language, voice] of Object.entries(VOICES)) {
  const speaker = await Speaker.open(voice, values.voices)
  mkdirSync(join(here, language), { recursive: true })
  for (const [name, texts] of Object.entries(phrases)) {
    if (values.only && values.only !== name) continue
    let samples = speaker.say(texts[language]).map((x) => x / 2)
    samples = trim(highPass(samples, 170))
    for (let pass = 0; pass < 3; pass++) {
      const gain = amplitude(SPEECH_LEVEL - speechLevel(samples))
      samples = limit(samples.map((x) => x * gain), amplitude(PEAK_CEILING))
    }
    const file = wav(samples)
    bytes += file.length
    writeFileSync(join(here, language, `${name}.wav`), file)
    const peak = decibel(samples.reduce((a, x) => Math.max(a, Math.abs(x)), 0))
    console.log(
      `${language}/${name}: ${(samples.length / RATE).toFixed(2)} s, speech ${speechLevel(samples).toFixed(1)} dB, peak ${peak.toFixed(1)} dB`,
    )
  }
}
console.log(`${bytes} bytes`)
