//! The synthetic call, step by step, on one thread. Each step has what is left of the time.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use palabre_admin::synthetic::Lent;
use palabre_call::{Connection, Failed, Guest, Kind, Progress, Standing};
use palabre_media::transport::Certificate;

use super::ear::Tone;
use super::ends::{Caller, Listener, Talker};
use super::failure::{Failure, Step};
use super::place::{Place, Telephone};
use super::report::{Called, Report, Webrtc};

/// One packet's sound.
const PACKET: Duration = Duration::from_millis(20);

/// Between two looks at the sockets. Shorter costs an emulated box its time, longer makes packets wait.
const TURN: Duration = Duration::from_millis(5);

/// Packets sent at once after a pause of this machine. What is older is left out, as a telephone would.
const BURST: u32 = 10;

const TALKER: &str = "the guest that plays";
const LISTENER: &str = "the guest that listens";

/// Makes the call. Ends before `deadline`, or little after.
pub(crate) fn make(
    place: &Place,
    lent: &Lent,
    start: Instant,
    deadline: Instant,
) -> Result<Report, Failure> {
    let certificate = Certificate::generate()
        .map_err(|error| Failure::new(Step::Dtls, format!("no certificate: {error}")))?;
    let join = |who, token| {
        Guest::join(&place.site, token, &certificate, deadline)
            .map_err(|failed| signalling(who, &failed))
    };
    let mut call = Call {
        start,
        deadline,
        talker: Talker::new(join(TALKER, &lent.speaker)?),
        listener: Listener::new(join(LISTENER, &lent.listener)?),
        caller: None,
        due: start,
    };
    let webrtc = call.webrtc()?;
    if place.is_on_network {
        leads_elsewhere(call.talker.guest.publisher.candidates())?;
    }
    names(&place.announced, call.talker.guest.publisher.candidates())?;
    let telephone = match &place.telephone {
        Some(telephone) => Some(call.telephone(telephone, &lent.code)?),
        None => None,
    };
    Ok(Report::new(webrtc, telephone, call.passed()))
}

struct Call {
    start: Instant,
    deadline: Instant,
    talker: Talker,
    listener: Listener,
    caller: Option<Caller>,
    /// When the next packets leave.
    due: Instant,
}

impl Call {
    /// Guest to guest, through the SFU.
    fn webrtc(&mut self) -> Result<Webrtc, Failure> {
        let joined = self.passed();
        let published = self.talker.guest.publish(Kind::Sound);
        published.map_err(|failed| signalling(TALKER, &failed))?;
        let connected = self.until(|call| {
            connected(&call.talker.guest.publisher, TALKER)?;
            connected(&call.listener.guest.subscriber, LISTENER)?;
            Ok(call.passed())
        })?;
        self.due = Instant::now();
        let heard = self.until(|call| call.guest_is_heard())?;
        Ok(Webrtc {
            joined,
            connected,
            heard: self.passed(),
            level: heard,
        })
    }

    /// Telephone to guest and back, through the mixer.
    fn telephone(&mut self, telephone: &Telephone, code: &str) -> Result<Called, Failure> {
        let caller = Caller::dial(telephone, code).map_err(|error| {
            Failure::new(
                Step::Sip,
                format!("this machine gives no telephone: {error}"),
            )
        })?;
        self.caller = Some(caller);
        let answered = self.until(|call| call.is_answered())?;
        if let Some(advertised) = telephone.advertised
            && let Some(told) = self.caller()?.phone.told()
            && told != advertised
        {
            let why =
                format!("telephones are told {told}, and not {advertised}, as sip.advertise says");
            return Err(Failure::new(Step::Sip, why));
        }
        self.listener.forget();
        let heard = self.until(|call| call.everybody_is_heard())?;
        let called = Called {
            answered,
            heard: self.passed(),
            level: heard.level,
            own: heard.own,
            level_to_webrtc: heard.to_guest,
            ended: Duration::ZERO,
        };
        self.caller()?.phone.hang_up(Instant::now());
        let ended = self.until(|call| match call.caller()?.phone.standing() {
            Standing::Left => Ok(call.passed()),
            _ => Err(Failure::new(Step::HangUp, "nobody answers the BYE")),
        })?;
        Ok(Called { ended, ..called })
    }

    fn caller(&mut self) -> Result<&mut Caller, Failure> {
        let missing = || Failure::new(Step::Sip, "there is no telephone");
        self.caller.as_mut().ok_or_else(missing)
    }

    fn is_answered(&mut self) -> Result<Duration, Failure> {
        match self.caller()?.phone.standing() {
            Standing::Talking => Ok(self.passed()),
            _ => Err(Failure::new(Step::Sip, "nobody answers the INVITE")),
        }
    }

    fn guest_is_heard(&mut self) -> Result<f64, Failure> {
        match self.listener.judge(Tone::Guest) {
            Ok(heard) => Ok(heard.level),
            Err(amiss) => Err(Failure::new(
                Step::SfuSound,
                format!("a guest does not hear the other through the SFU: {amiss}"),
            )),
        }
    }

    fn everybody_is_heard(&mut self) -> Result<Everybody, Failure> {
        let caller = self.caller()?.ear.judge(Tone::Guest);
        let caller = caller.map_err(|amiss| match amiss {
            super::ear::Amiss::Leak(_) => Failure::new(
                Step::OwnTone,
                format!("the telephone hears itself through the mixer: {amiss}"),
            ),
            _ => Failure::new(
                Step::MixerSound,
                format!("the telephone does not hear the guest through the mixer: {amiss}"),
            ),
        })?;
        let guest = self.listener.judge(Tone::Telephone).map_err(|amiss| {
            Failure::new(
                Step::SipSound,
                format!("a guest does not hear the telephone: {amiss}"),
            )
        })?;
        self.guest_is_heard()?;
        Ok(Everybody {
            level: caller.level,
            own: caller.other,
            to_guest: guest.level,
        })
    }

    fn passed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Lets the call run until `step` is passed, or gives its failure when the time is up.
    fn until<T>(
        &mut self,
        mut step: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            match step(self) {
                Err(_) if Instant::now() < self.deadline => self.turn()?,
                outcome => return outcome,
            }
        }
    }

    /// Everybody sends what is due and handles what has come.
    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let mut burst = 0;
        while self.due <= now {
            self.due += PACKET;
            burst += 1;
            if burst <= BURST {
                self.talker.play();
                if let Some(caller) = &mut self.caller
                    && caller.phone.standing() == Standing::Talking
                {
                    caller.play();
                }
            }
        }
        let lost = |who| move |failed| signalling(who, &failed);
        self.talker.run(now).map_err(lost(TALKER))?;
        self.listener.run(now).map_err(lost(LISTENER))?;
        for connection in [
            &self.talker.guest.publisher,
            &self.listener.guest.subscriber,
        ] {
            if connection.progress() == Progress::Closed {
                return connected(connection, "a guest");
            }
        }
        if let Some(caller) = &mut self.caller {
            caller.run(now);
            match caller.phone.standing() {
                Standing::Refused(status) => {
                    let why = format!("the telephone is refused with SIP status {status}");
                    return Err(Failure::new(Step::Sip, why));
                }
                Standing::Lost => {
                    let why = "the telephone is hung up on, or gets no answer it can use";
                    return Err(Failure::new(Step::Sip, why));
                }
                _ => {}
            }
        }
        sleep(TURN);
        Ok(())
    }
}

/// Levels of the last step but one.
struct Everybody {
    level: f64,
    own: f64,
    to_guest: f64,
}

fn signalling(who: &str, failed: &Failed) -> Failure {
    Failure::new(Step::Signalling, format!("{who} is lost: {failed}"))
}

/// Whether guests on other machines are told an address of this one.
fn leads_elsewhere(candidates: &[SocketAddr]) -> Result<(), Failure> {
    if !candidates.iter().all(|told| told.ip().is_loopback()) {
        return Ok(());
    }
    let sentence = "guests on other machines get no media: the program tells them loopback addresses only, although \
                    this machine has a network (set media.announced)";
    Err(Failure::new(Step::Ice, sentence))
}

/// Whether guests are told each address that `media.announced` gives.
fn names(announced: &[SocketAddr], candidates: &[SocketAddr]) -> Result<(), Failure> {
    match announced.iter().find(|wanted| !candidates.contains(wanted)) {
        None => Ok(()),
        Some(wanted) => Err(Failure::new(
            Step::Ice,
            format!(
                "guests are not told {wanted}, which media.announced gives, but {candidates:?}"
            ),
        )),
    }
}

/// Whether the connection stands; if not, the step it is at.
fn connected(connection: &Connection, who: &str) -> Result<(), Failure> {
    let (step, sentence) = match connection.progress() {
        Progress::Connected => return Ok(()),
        Progress::Undescribed => (Step::Signalling, "gets no description of the program's end"),
        Progress::Checking => (Step::Ice, "gets no answer from the media port"),
        Progress::Handshaking => (Step::Dtls, "comes to no end of its DTLS handshake"),
        Progress::Closed => (Step::Dtls, "has its connection closed by the program"),
    };
    Err(Failure::new(step, format!("{who} {sentence}")))
}
