//! An ICE-lite agent (RFC 8445 §2.5): answers checks, follows the peer's nomination, notices silence.
//!
//! Has no candidates of its own to compare and sends no check: the peer is always the full,
//! controlling agent. Never sees a packet that is not STUN.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::DatagramRefusal;
use super::parameters::IceCredentials;
use super::stun::{self, BindingRequest};

/// Addresses that passed a check and may therefore start or continue DTLS.
///
/// Higher serves peers with more interfaces; each costs 32 bytes. The oldest is forgotten.
const MAX_VALID: usize = 16;

#[derive(Debug)]
pub(super) struct IceLite {
    local: IceCredentials,
    /// Credentials before the last restart: the peer keeps checking its old pair with them until
    /// the new description reaches it.
    previous: Option<IceCredentials>,
    remote_ufrag: Option<String>,
    selected: Option<SocketAddr>,
    /// Set by a restart: the next valid check selects its address without nomination.
    awaits_first_check: bool,
    valid: VecDeque<SocketAddr>,
    last_check: Instant,
    timeout: Duration,
}

/// What an accepted check calls for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckAnswer {
    /// To be sent to where the check came from.
    pub(super) bytes: Vec<u8>,
    /// The address media goes to has become this one.
    pub(super) selected: Option<SocketAddr>,
}

impl IceLite {
    pub(super) fn new(now: Instant, local: IceCredentials, timeout: Duration) -> Self {
        Self {
            local,
            previous: None,
            remote_ufrag: None,
            selected: None,
            awaits_first_check: true,
            valid: VecDeque::new(),
            last_check: now,
            timeout,
        }
    }

    pub(super) fn set_remote(&mut self, remote: &IceCredentials) {
        self.remote_ufrag = Some(remote.ufrag.clone());
    }

    /// New credentials (RFC 8445 §9). The selected address stays until a check with the new ones.
    pub(super) fn restart(
        &mut self,
        now: Instant,
        local: IceCredentials,
        remote: Option<&IceCredentials>,
    ) {
        self.previous = Some(std::mem::replace(&mut self.local, local));
        self.remote_ufrag = remote.map(|remote| remote.ufrag.clone());
        self.awaits_first_check = true;
        self.last_check = now;
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<CheckAnswer, DatagramRefusal> {
        let request = BindingRequest::parse(datagram)?;
        let previous = self
            .previous
            .as_ref()
            .filter(|previous| request.local_ufrag == previous.ufrag);
        let local = if request.local_ufrag == self.local.ufrag {
            let is_stranger = self
                .remote_ufrag
                .as_ref()
                .is_some_and(|ufrag| request.remote_ufrag != ufrag);
            if is_stranger {
                return Err(DatagramRefusal::StunWrongUser);
            }
            &self.local
        } else {
            previous.ok_or(DatagramRefusal::StunWrongUser)?
        };
        if !request.is_authentic(&local.pwd) {
            return Err(DatagramRefusal::StunIntegrity);
        }
        if let Some(attribute) = request.unknown_required {
            let bytes = stun::unknown_attribute(request.transaction, attribute, local);
            return Ok(CheckAnswer {
                bytes,
                selected: None,
            });
        }
        if request.is_controlled {
            let bytes = stun::role_conflict(request.transaction, local);
            return Ok(CheckAnswer {
                bytes,
                selected: None,
            });
        }
        let bytes = stun::binding_success(request.transaction, from, local);
        self.last_check = now;
        if previous.is_some() {
            // Still on the old pair: it keeps the connection alive and decides nothing.
            return Ok(CheckAnswer {
                bytes,
                selected: None,
            });
        }
        self.remember(from);
        // A full agent nominates only what it has selected when the other side is lite
        // (RFC 8445 §8.1.1), so the latest nomination is where it wants its media. Before
        // any nomination the first valid address serves, for DTLS must not wait.
        let selects = std::mem::take(&mut self.awaits_first_check) || request.use_candidate;
        let selected = (selects && self.selected != Some(from)).then_some(from);
        self.selected = selected.or(self.selected);
        Ok(CheckAnswer { bytes, selected })
    }

    fn remember(&mut self, address: SocketAddr) {
        if !self.valid.contains(&address) {
            if self.valid.len() == MAX_VALID {
                // Never forget the one in use: it is in `selected` as well.
                self.valid.pop_front();
            }
            self.valid.push_back(address);
        }
    }

    /// Whether this address has passed a check.
    pub(super) fn is_valid(&self, address: SocketAddr) -> bool {
        self.selected == Some(address) || self.valid.contains(&address)
    }

    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// When the peer counts as gone unless another check arrives (RFC 7675 seen from the lite side).
    pub(super) fn deadline(&self) -> Instant {
        self.last_check + self.timeout
    }

    pub(super) fn is_timed_out(&self, now: Instant) -> bool {
        now >= self.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::DEFAULT_ICE_TIMEOUT;

    fn hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        use aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        payloads.iter().for_each(|payload| context.update(payload));
        context.sign().as_ref().try_into().unwrap()
    }

    fn check(user: &str, pwd: &str, is_controlling: bool, nominates: bool) -> Vec<u8> {
        use is::stun::{StunMessage, TransId};
        let mut bytes = vec![0; 512];
        let length =
            StunMessage::binding_request(user, TransId::new(), is_controlling, 7, 99, nominates)
                .to_bytes(Some(pwd.as_bytes()), &mut bytes, hmac)
                .unwrap();
        bytes.truncate(length);
        bytes
    }

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials {
            ufrag: name.into(),
            pwd: format!("password-of-{name}-0123456789"),
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 9], port))
    }

    #[allow(clippy::disallowed_methods)] // where a test's clock begins
    fn agent() -> (IceLite, Instant, IceCredentials) {
        let now = Instant::now();
        let local = credentials("ours");
        (
            IceLite::new(now, local.clone(), DEFAULT_ICE_TIMEOUT),
            now,
            local,
        )
    }

    #[test]
    fn a_check_before_the_remote_description_is_answered() {
        let (mut ice, now, local) = agent();
        let answer = ice
            .handle(
                now,
                address(1),
                &check("ours:theirs", &local.pwd, true, false),
            )
            .unwrap();
        assert_eq!(answer.selected, Some(address(1)));
        assert!(ice.is_valid(address(1)));
        let message = is::stun::StunMessage::parse(&answer.bytes).unwrap();
        assert_eq!(message.mapped_address(), Some(address(1)));
    }

    #[test]
    fn media_follows_the_latest_nomination() {
        let (mut ice, now, local) = agent();
        ice.set_remote(&credentials("theirs"));
        let plain = check("ours:theirs", &local.pwd, true, false);
        let nominating = check("ours:theirs", &local.pwd, true, true);
        assert_eq!(
            ice.handle(now, address(1), &plain).unwrap().selected,
            Some(address(1))
        );
        assert_eq!(ice.handle(now, address(2), &plain).unwrap().selected, None);
        assert_eq!(
            ice.handle(now, address(2), &nominating).unwrap().selected,
            Some(address(2))
        );
        assert_eq!(
            ice.handle(now, address(2), &nominating).unwrap().selected,
            None
        );
        assert_eq!(
            ice.handle(now, address(3), &nominating).unwrap().selected,
            Some(address(3))
        );
        assert_eq!(ice.selected(), Some(address(3)));
        assert!(ice.is_valid(address(1)) && ice.is_valid(address(2)));
    }

    #[test]
    fn strangers_and_forgers_are_refused() {
        let (mut ice, now, local) = agent();
        ice.set_remote(&credentials("theirs"));
        for (user, pwd, refusal) in [
            (
                "other:theirs",
                local.pwd.as_str(),
                DatagramRefusal::StunWrongUser,
            ),
            ("ours:other", &local.pwd, DatagramRefusal::StunWrongUser),
            (
                "ours:theirs",
                "a-password-of-someone-else",
                DatagramRefusal::StunIntegrity,
            ),
        ] {
            let refused = ice.handle(now, address(1), &check(user, pwd, true, true));
            assert_eq!(refused, Err(refusal), "{user}");
        }
        assert_eq!(ice.selected(), None);
        assert!(!ice.is_valid(address(1)));
    }

    #[test]
    fn a_peer_that_claims_our_role_is_told_so() {
        let (mut ice, now, local) = agent();
        let answer = ice
            .handle(
                now,
                address(1),
                &check("ours:theirs", &local.pwd, false, false),
            )
            .unwrap();
        let message = is::stun::StunMessage::parse(&answer.bytes).unwrap();
        assert_eq!(message.error_code().unwrap().0, 487);
        assert_eq!(ice.selected(), None);
    }

    #[test]
    fn after_a_restart_the_old_pair_lives_until_a_new_check() {
        let (mut ice, now, local) = agent();
        ice.set_remote(&credentials("theirs"));
        ice.handle(
            now,
            address(1),
            &check("ours:theirs", &local.pwd, true, true),
        )
        .unwrap();

        let (fresh, theirs) = (credentials("fresh"), credentials("anew"));
        ice.restart(now, fresh.clone(), Some(&theirs));
        let later = now + Duration::from_secs(10);
        let old = check("ours:theirs", &local.pwd, true, true);
        assert_eq!(ice.handle(later, address(1), &old).unwrap().selected, None);
        assert_eq!(ice.selected(), Some(address(1)));
        assert!(!ice.is_timed_out(later + Duration::from_secs(14)));

        let new = check("fresh:anew", &fresh.pwd, true, false);
        assert_eq!(
            ice.handle(later, address(5), &new).unwrap().selected,
            Some(address(5))
        );
    }

    #[test]
    fn silence_is_a_timeout_and_checks_postpone_it() {
        let (mut ice, now, local) = agent();
        assert!(!ice.is_timed_out(now + Duration::from_millis(14_999)));
        assert!(ice.is_timed_out(now + DEFAULT_ICE_TIMEOUT));
        let later = now + Duration::from_secs(10);
        ice.handle(later, address(1), &check("ours:x", &local.pwd, true, false))
            .unwrap();
        assert_eq!(ice.deadline(), later + DEFAULT_ICE_TIMEOUT);
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let (mut ice, now, local) = agent();
        for port in 1..=1000 {
            let message = check("ours:x", &local.pwd, true, port == 1);
            ice.handle(now, address(port), &message).unwrap();
        }
        assert_eq!(ice.valid.len(), MAX_VALID);
        assert!(ice.is_valid(address(1)), "the one in use");
    }
}
