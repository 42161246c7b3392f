//! Rooms without an engine: each line is a thread that speaks G.711 RTP every 20 ms, plays what it is told, hums while it is in
//! a room, and writes down all it hears.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use palabre_engine::directory::{BoxFuture, RoomCode, RoomTicket};
use palabre_engine::door::{Refusal, Source};
use palabre_engine::{
    Direction, JoinError, LegEvent, LegIdentity, LegParameters, LegUpdate, Prompt,
};
use palabre_media::codec::dtmf::{EventDetector, TelephoneEvent};
use palabre_media::codec::g711::{alaw_to_linear, linear_to_alaw};
use palabre_sip::call::Found;
use palabre_sip::rooms::{Line, Opened, Rooms};
use tokio::sync::mpsc;

/// The room's hum, in hertz: what a caller in the room hears.
pub(crate) const HUM: f64 = 800.0;

/// The one code that opens a room.
pub(crate) const CODE: &str = "123456789";

/// What a line did and heard.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) room: Option<(String, LegIdentity)>,
    pub(crate) muted: bool,
    pub(crate) closed: bool,
    pub(crate) keys: String,
    pub(crate) direction: Direction,
    /// At 8 kHz.
    pub(crate) heard: Vec<i16>,
    pub(crate) packets_sent: u64,
    prompt: Option<(Prompt, usize)>,
    pub(crate) prompts_played: u64,
}

pub(crate) type Shared = Arc<Mutex<State>>;

/// Rooms that open to [`CODE`].
#[derive(Clone, Default)]
pub(crate) struct Humming {
    pub(crate) lines: Arc<Mutex<Vec<Shared>>>,
    pub(crate) wait: Duration,
}

impl Humming {
    /// The line opened `n`th, once it is: a phone says that the call stands before its ACK has reached us.
    pub(crate) fn line(&self, n: usize) -> Shared {
        super::until("the line is open", 5, || self.count() > n);
        self.lines.lock().unwrap()[n].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }
}

impl Rooms for Humming {
    type Line = HummingLine;

    fn look_up(&self, _: Source, code: String) -> BoxFuture<'static, Result<Found, Refusal>> {
        let wait = self.wait;
        Box::pin(async move {
            if code != CODE {
                return Err(Refusal::Unknown { wait });
            }
            Ok(Found {
                ticket: RoomTicket {
                    room: "hum".into(),
                    title: "Hum".into(),
                    code: RoomCode::parse(CODE).unwrap(),
                    max_participants: None,
                },
                full: false,
            })
        })
    }

    fn lines(&self) -> usize {
        usize::MAX
    }

    fn open_line(&self, parameters: LegParameters) -> BoxFuture<'static, Opened<HummingLine>> {
        let state = Shared::default();
        state.lock().unwrap().direction = parameters.direction;
        self.lines.lock().unwrap().push(state.clone());
        let (events, heard) = mpsc::channel(64);
        let shared = state.clone();
        std::thread::spawn(move || run(&parameters, &shared, &events));
        Box::pin(async { Ok((HummingLine { state }, heard)) })
    }
}

pub(crate) struct HummingLine {
    state: Shared,
}

impl Line for HummingLine {
    fn play(&self, sound: Prompt) {
        let mut state = self.state.lock().unwrap();
        state.prompt = Some((sound, 0));
        state.prompts_played += 1;
    }

    fn stop_playing(&self) {
        self.state.lock().unwrap().prompt = None;
    }

    fn update(&self, update: LegUpdate) {
        let mut state = self.state.lock().unwrap();
        state.direction = update.direction.unwrap_or(state.direction);
    }

    fn set_muted(&self, muted: bool) {
        self.state.lock().unwrap().muted = muted;
    }

    fn join(
        &self,
        ticket: RoomTicket,
        identity: LegIdentity,
    ) -> BoxFuture<'static, Result<(), JoinError>> {
        self.state.lock().unwrap().room = Some((ticket.room, identity));
        Box::pin(async { Ok(()) })
    }
}

impl Drop for HummingLine {
    fn drop(&mut self) {
        self.state.lock().unwrap().closed = true;
    }
}

fn run(parameters: &LegParameters, state: &Shared, events: &mpsc::Sender<LegEvent>) {
    let socket = &parameters.rtp;
    let start = Instant::now();
    let mut detector = EventDetector::default();
    for tick in 0u32.. {
        let due = start + Duration::from_millis(20) * tick;
        let mut packet = [0; 1_500];
        // Until it is time to speak again, it listens.
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = socket.recv(&mut packet) else {
                continue;
            };
            if length <= 12 {
                continue;
            }
            let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
            let kind = packet[1] & 0x7f;
            let body = &packet[12..length];
            if Some(kind) == parameters.telephone_event.map(|(kind, _)| kind) {
                let event = TelephoneEvent::parse(body).unwrap();
                if let Some(key) = detector.packet(Instant::now(), timestamp, event) {
                    state.lock().unwrap().keys.push(key);
                    let _ = events.try_send(LegEvent::Digit(key));
                }
            } else if kind == parameters.payload_type {
                let sound = body.iter().map(|byte| alaw_to_linear(*byte));
                state.lock().unwrap().heard.extend(sound);
            }
        }
        let mut state = state.lock().unwrap();
        if state.closed {
            return;
        }
        let frame = frame(&mut state, tick);
        if state
            .prompt
            .as_ref()
            .is_some_and(|(sound, at)| *at >= sound.len())
        {
            state.prompt = None;
            let _ = events.try_send(LegEvent::PlayFinished);
        }
        if let (true, Some(remote)) = (state.direction.sends(), parameters.remote) {
            let mut packet = vec![0x80, parameters.payload_type];
            packet.extend((tick as u16).to_be_bytes());
            packet.extend((tick * 160).to_be_bytes());
            packet.extend([1, 2, 3, 4]);
            packet.extend(frame.map(linear_to_alaw));
            let _ = socket.send_to(&packet, remote);
            state.packets_sent += 1;
        }
    }
}

fn frame(state: &mut State, tick: u32) -> [i16; 160] {
    let mut frame = [0; 160];
    if let Some((sound, at)) = &mut state.prompt {
        for (sample, six) in frame.iter_mut().zip(sound[*at..].chunks(6)) {
            *sample = (six.iter().map(|s| i32::from(*s)).sum::<i32>() / six.len() as i32) as i16;
        }
        *at += 960;
    } else if state.room.is_some() {
        for (n, sample) in frame.iter_mut().enumerate() {
            let time = f64::from(tick * 160 + n as u32) / 8_000.0;
            *sample = ((std::f64::consts::TAU * HUM * time).sin() * 3_000.0) as i16;
        }
    }
    frame
}
