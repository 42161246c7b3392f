//! The four transaction machines of RFC 3261 §17 with the Accepted states of RFC 6026. Each is told what came and says what
//! to do; it sends nothing and knows no tables.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::event::Flow;
use super::timer::Timers;

/// What a timer of a transaction asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Wait,
    /// Send these bytes again.
    Resend(Bytes),
    /// The transaction is over.
    Over,
    /// It is over without the answer or ACK it waited for.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    /// No final response yet.
    Proceeding,
    /// Final response sent; for INVITE a refusal that waits for ACK (timers G, H), else timer J.
    Completed,
    /// Refusal acknowledged (timer I).
    Confirmed,
    /// INVITE answered 2xx (RFC 6026, timer L): repeated INVITEs are absorbed, the dialog repeats the 2xx.
    Accepted,
}

/// A server transaction.
#[derive(Debug)]
pub struct Server {
    invite: bool,
    state: ServerState,
    /// Where its request came from and its responses go.
    pub flow: Flow,
    response: Option<Bytes>,
    interval: Duration,
    resend: Option<Instant>,
    end: Option<Instant>,
}

impl Server {
    /// For a new request. `flow.remote` must be where responses go.
    pub fn new(invite: bool, flow: Flow) -> Server {
        Server {
            invite,
            state: ServerState::Proceeding,
            flow,
            response: None,
            interval: Duration::ZERO,
            resend: None,
            end: None,
        }
    }

    fn reliable(&self) -> bool {
        self.flow.connection.is_some()
    }

    /// The same request came again: what to send.
    pub fn repeated(&self) -> Option<Bytes> {
        match self.state {
            ServerState::Proceeding | ServerState::Completed => self.response.clone(),
            ServerState::Confirmed | ServerState::Accepted => None,
        }
    }

    /// True until a final response was given.
    pub fn is_pending(&self) -> bool {
        self.state == ServerState::Proceeding
    }

    /// The user of the transaction responds; the bytes must be sent once by the caller. Responses after a final one change
    /// nothing and must not be sent: the answer says whether to.
    pub fn respond(&mut self, now: Instant, timers: &Timers, status: u16, bytes: Bytes) -> bool {
        if self.state != ServerState::Proceeding {
            return false;
        }
        match (self.invite, status) {
            (_, 100..200) => self.response = Some(bytes),
            (true, 200..300) => {
                self.state = ServerState::Accepted;
                self.response = None;
                self.end = Some(now + timers.give_up);
            }
            (true, _) => {
                self.state = ServerState::Completed;
                self.response = Some(bytes);
                self.end = Some(now + timers.give_up);
                self.interval = timers.t1;
                self.resend = (!self.reliable()).then(|| now + timers.t1);
            }
            (false, _) => {
                self.state = ServerState::Completed;
                self.response = Some(bytes);
                self.end = Some(if self.reliable() {
                    now
                } else {
                    now + timers.give_up
                });
            }
        }
        true
    }

    /// An ACK for this INVITE came. False if it belongs to the dialog instead (we answered 2xx).
    pub fn acknowledged(&mut self, now: Instant, timers: &Timers) -> bool {
        match self.state {
            ServerState::Completed if self.invite => {
                self.state = ServerState::Confirmed;
                self.response = None;
                self.resend = None;
                self.end = Some(if self.reliable() {
                    now
                } else {
                    now + timers.t4
                });
                true
            }
            ServerState::Confirmed => true,
            _ => false,
        }
    }

    /// When to call [`due`](Self::due).
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.resend, self.end)
    }

    /// Runs the timers.
    pub fn due(&mut self, now: Instant, timers: &Timers) -> Due {
        if self.end.is_some_and(|end| end <= now) {
            return if self.state == ServerState::Completed && self.invite {
                Due::Lost
            } else {
                Due::Over
            };
        }
        if self.resend.is_some_and(|at| at <= now) {
            self.interval = (self.interval * 2).min(timers.t2);
            self.resend = Some(now + self.interval);
            return self.response.clone().map_or(Due::Wait, Due::Resend);
        }
        Due::Wait
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    /// Request sent, nothing came.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A final response came (timers D, K).
    Completed,
    /// INVITE answered 2xx (RFC 6026, timer M): further 2xx pass.
    Accepted,
}

/// What to do with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// Give it to the user of the transaction.
    Pass,
    /// Give it to the user and acknowledge it: a refused INVITE.
    PassAndAck,
    /// A repeated refusal: acknowledge again only.
    Ack,
    /// Drop it.
    Drop,
}

/// A client transaction.
#[derive(Debug)]
pub struct Client {
    invite: bool,
    state: ClientState,
    /// Where the request went.
    pub flow: Flow,
    /// The request.
    pub request: Bytes,
    interval: Duration,
    resend: Option<Instant>,
    end: Option<Instant>,
}

impl Client {
    /// For a request the caller sends once, now.
    pub fn new(now: Instant, timers: &Timers, invite: bool, flow: Flow, request: Bytes) -> Client {
        let reliable = flow.connection.is_some();
        Client {
            invite,
            state: ClientState::Calling,
            flow,
            request,
            interval: timers.t1,
            resend: (!reliable).then(|| now + timers.t1),
            end: Some(now + timers.give_up),
        }
    }

    fn reliable(&self) -> bool {
        self.flow.connection.is_some()
    }

    /// No final response came yet.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, ClientState::Calling | ClientState::Proceeding)
    }

    /// A provisional response came, no final one.
    pub fn is_proceeding(&self) -> bool {
        self.state == ClientState::Proceeding
    }

    /// Gives up at `at` at the latest, whatever provisional responses came: after CANCEL (RFC 3261 §9.1).
    pub fn end_by(&mut self, at: Instant) {
        if self.is_pending() {
            self.end = Some(self.end.map_or(at, |end| end.min(at)));
        }
    }

    /// A response with its branch came.
    pub fn receive(&mut self, now: Instant, timers: &Timers, status: u16) -> Response {
        match (self.state, status) {
            (ClientState::Calling | ClientState::Proceeding, 100..200) => {
                if self.invite {
                    // From now on only the user gives up, or CANCEL.
                    if self.state == ClientState::Calling {
                        self.end = None;
                    }
                    self.resend = None;
                } else if self.state == ClientState::Calling {
                    self.interval = timers.t2;
                }
                self.state = ClientState::Proceeding;
                Response::Pass
            }
            (ClientState::Calling | ClientState::Proceeding, 200..300) if self.invite => {
                self.state = ClientState::Accepted;
                self.resend = None;
                self.end = Some(now + timers.give_up);
                Response::Pass
            }
            (ClientState::Calling | ClientState::Proceeding, _) => {
                self.state = ClientState::Completed;
                self.resend = None;
                let wait = if self.invite { timers.d } else { timers.t4 };
                self.end = Some(if self.reliable() { now } else { now + wait });
                if self.invite {
                    Response::PassAndAck
                } else {
                    Response::Pass
                }
            }
            (ClientState::Accepted, 200..300) => Response::Pass,
            (ClientState::Completed, 300..) if self.invite => Response::Ack,
            _ => Response::Drop,
        }
    }

    /// When to call [`due`](Self::due).
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.resend, self.end)
    }

    /// Runs the timers.
    pub fn due(&mut self, now: Instant, timers: &Timers) -> Due {
        if self.end.is_some_and(|end| end <= now) {
            return if self.is_pending() {
                Due::Lost
            } else {
                Due::Over
            };
        }
        if self.resend.is_some_and(|at| at <= now) {
            // Timer A doubles without bound, timer E up to T2 (RFC 3261 §17.1.1.2, §17.1.2.2).
            self.interval = if self.invite {
                self.interval * 2
            } else if self.state == ClientState::Proceeding {
                timers.t2
            } else {
                (self.interval * 2).min(timers.t2)
            };
            self.resend = Some(now + self.interval);
            return Due::Resend(self.request.clone());
        }
        Due::Wait
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::event::{ConnectionId, Protocol};
    use super::*;

    const TIMERS: fn() -> Timers = || Timers::new(Duration::from_millis(500));

    fn flow(reliable: bool) -> Flow {
        let any: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        Flow {
            protocol: Protocol::Udp,
            local: any,
            remote: any,
            connection: reliable.then_some(ConnectionId::Opened(1)),
        }
    }

    /// Milliseconds from start at which bytes were sent again, then what ended it and when.
    fn run(
        start: Instant,
        mut deadline: impl FnMut() -> Option<Instant>,
        mut due: impl FnMut(Instant) -> Due,
    ) -> (Vec<u128>, Due, u128) {
        let mut sent = Vec::new();
        loop {
            let now = deadline().expect("a transaction that waits has a deadline");
            match due(now) {
                Due::Wait => {}
                Due::Resend(_) => sent.push((now - start).as_millis()),
                end => return (sent, end, (now - start).as_millis()),
            }
        }
    }

    fn run_client(start: Instant, client: &mut Client) -> (Vec<u128>, Due, u128) {
        let cell = std::cell::RefCell::new(client);
        run(
            start,
            || cell.borrow().deadline(),
            |now| cell.borrow_mut().due(now, &TIMERS()),
        )
    }

    fn run_server(start: Instant, server: &mut Server) -> (Vec<u128>, Due, u128) {
        let cell = std::cell::RefCell::new(server);
        run(
            start,
            || cell.borrow().deadline(),
            |now| cell.borrow_mut().due(now, &TIMERS()),
        )
    }

    #[test]
    fn invite_client_runs_timers_a_and_b() {
        let now = Instant::now();
        let mut client = Client::new(now, &TIMERS(), true, flow(false), Bytes::new());
        assert_eq!(
            run_client(now, &mut client),
            (
                vec![500, 1500, 3500, 7500, 15_500, 31_500],
                Due::Lost,
                32_000
            )
        );
        let mut client = Client::new(now, &TIMERS(), true, flow(true), Bytes::new());
        assert_eq!(run_client(now, &mut client), (vec![], Due::Lost, 32_000));
    }

    #[test]
    fn other_client_runs_timers_e_and_f() {
        let now = Instant::now();
        let mut client = Client::new(now, &TIMERS(), false, flow(false), Bytes::new());
        let resent = vec![
            500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
        ];
        assert_eq!(run_client(now, &mut client), (resent, Due::Lost, 32_000));
        // In Proceeding the next copy goes as planned, then each 4 s.
        let mut client = Client::new(now, &TIMERS(), false, flow(false), Bytes::new());
        assert_eq!(client.receive(now, &TIMERS(), 100), Response::Pass);
        assert_eq!(
            run_client(now, &mut client).0,
            [500, 4500, 8500, 12_500, 16_500, 20_500, 24_500, 28_500]
        );
    }

    #[test]
    fn invite_client_absorbs_refusals_for_timer_d_and_passes_2xx_for_timer_m() {
        let now = Instant::now();
        let mut client = Client::new(now, &TIMERS(), true, flow(false), Bytes::new());
        assert_eq!(client.receive(now, &TIMERS(), 180), Response::Pass);
        assert_eq!(client.deadline(), None);
        assert_eq!(client.receive(now, &TIMERS(), 486), Response::PassAndAck);
        assert_eq!(client.receive(now, &TIMERS(), 486), Response::Ack);
        assert_eq!(client.receive(now, &TIMERS(), 200), Response::Drop);
        assert_eq!(run_client(now, &mut client), (vec![], Due::Over, 32_000));
        let mut client = Client::new(now, &TIMERS(), true, flow(true), Bytes::new());
        assert_eq!(client.receive(now, &TIMERS(), 603), Response::PassAndAck);
        assert_eq!(run_client(now, &mut client).2, 0);
        let mut client = Client::new(now, &TIMERS(), true, flow(false), Bytes::new());
        assert_eq!(client.receive(now, &TIMERS(), 200), Response::Pass);
        assert_eq!(client.receive(now, &TIMERS(), 200), Response::Pass);
        assert_eq!(client.receive(now, &TIMERS(), 486), Response::Drop);
        assert_eq!(run_client(now, &mut client), (vec![], Due::Over, 32_000));
    }

    #[test]
    fn other_client_stays_for_timer_k() {
        let now = Instant::now();
        for (reliable, stays) in [(false, 5_000), (true, 0)] {
            let mut client = Client::new(now, &TIMERS(), false, flow(reliable), Bytes::new());
            assert_eq!(client.receive(now, &TIMERS(), 200), Response::Pass);
            assert_eq!(client.receive(now, &TIMERS(), 200), Response::Drop);
            assert_eq!(run_client(now, &mut client), (vec![], Due::Over, stays));
        }
    }

    #[test]
    fn invite_server_repeats_refusals_by_timer_g_until_timer_h() {
        let now = Instant::now();
        let mut server = Server::new(true, flow(false));
        assert_eq!(server.repeated(), None);
        assert!(server.respond(now, &TIMERS(), 180, Bytes::from_static(b"180")));
        assert_eq!(server.repeated().unwrap(), "180");
        assert!(server.respond(now, &TIMERS(), 486, Bytes::from_static(b"486")));
        assert_eq!(server.repeated().unwrap(), "486");
        assert!(!server.respond(now, &TIMERS(), 200, Bytes::new()));
        let resent = vec![
            500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
        ];
        assert_eq!(run_server(now, &mut server), (resent, Due::Lost, 32_000));
        let mut server = Server::new(true, flow(true));
        assert!(server.respond(now, &TIMERS(), 486, Bytes::new()));
        assert_eq!(run_server(now, &mut server), (vec![], Due::Lost, 32_000));
    }

    #[test]
    fn acknowledged_refusals_stay_for_timer_i_and_2xx_for_timer_l() {
        let now = Instant::now();
        for (reliable, stays) in [(false, 5_000), (true, 0)] {
            let mut server = Server::new(true, flow(reliable));
            assert!(!server.acknowledged(now, &TIMERS()));
            assert!(server.respond(now, &TIMERS(), 486, Bytes::new()));
            assert!(server.acknowledged(now, &TIMERS()) && server.acknowledged(now, &TIMERS()));
            assert_eq!(server.repeated(), None);
            assert_eq!(run_server(now, &mut server), (vec![], Due::Over, stays));
        }
        let mut server = Server::new(true, flow(false));
        assert!(server.respond(now, &TIMERS(), 200, Bytes::new()));
        assert!(!server.acknowledged(now, &TIMERS()));
        assert_eq!(server.repeated(), None);
        assert_eq!(run_server(now, &mut server), (vec![], Due::Over, 32_000));
    }

    #[test]
    fn other_server_repeats_for_timer_j() {
        let now = Instant::now();
        for (reliable, stays) in [(false, 32_000), (true, 0)] {
            let mut server = Server::new(false, flow(reliable));
            assert!(server.respond(now, &TIMERS(), 200, Bytes::from_static(b"200")));
            assert_eq!(server.repeated().unwrap(), "200");
            assert_eq!(run_server(now, &mut server), (vec![], Due::Over, stays));
        }
    }
}
