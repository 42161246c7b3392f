//! How members of the mesh (the workers and the mixer thread) talk to each other.
//!
//! Media goes over bounded rings, one for each ordered pair of members: a full ring drops
//! and counts. Everything else goes to the receiver's inbox, which loses nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use palabre_media::ids::{SessionId, WorkerIndex};
use palabre_media::sfu::{Command, MeshMessage, MeshTarget};
use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::oneshot;

use super::socket::Wake;

/// Messages in all rings together: bounds their memory (about 100 bytes each) on machines
/// with many cores.
const RING_BUDGET: usize = 128 * 1024;

/// Messages in one ring. Higher rides out a longer stall of the receiver: 1,024 packets are
/// 100 ms of ten video streams.
const RING_MAX: usize = 1024;
const RING_MIN: usize = 64;

/// Orders waiting in one inbox before the control plane is refused.
const INBOX_LIMIT: usize = 65_536;

/// What an inbox carries.
#[derive(Debug)]
pub(super) enum Order {
    Command(SessionId, Command),
    Mesh(MeshMessage),
    /// A member came late: it has to be told what is watched.
    Greet(WorkerIndex),
    /// The table's stale sessions are to be looked for.
    Sweep,
    /// Somebody wants to know whether this member does what it is told.
    Answer(oneshot::Sender<()>),
}

/// What others see of a member.
#[derive(Debug)]
pub(super) struct Mailbox {
    inbox: Sender<Order>,
    waiting: AtomicUsize,
    is_asleep: AtomicBool,
    /// A member that nobody took yet gets nothing.
    is_present: AtomicBool,
    wake: Wake,
}

/// The inbox is full: the worker is stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InboxFull;

impl Mailbox {
    /// Puts an order in, wakes the member.
    pub(super) fn order(&self, order: Order) -> Result<(), InboxFull> {
        if self.waiting.load(Ordering::Relaxed) >= INBOX_LIMIT {
            return Err(InboxFull);
        }
        self.put(order);
        self.rouse();
        Ok(())
    }

    fn put(&self, order: Order) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A member that has ended needs no orders.
        let _ = self.inbox.send(order);
    }

    /// Wakes the member if it sleeps; of several callers one pays for it.
    pub(super) fn rouse(&self) {
        // What was sent becomes visible before the flag is read: see `Member::may_sleep`.
        fence(Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake.call();
        }
    }
}

/// One member's ends of everything.
pub(super) struct Member {
    index: usize,
    mailboxes: Arc<[Mailbox]>,
    inbox: Receiver<Order>,
    incoming: Vec<Consumer<MeshMessage>>,
    /// By receiver; `None` for itself.
    outgoing: Vec<Option<Producer<MeshMessage>>>,
    /// Receivers to be woken at the next [`Self::flush`], one bit each.
    touched: u128,
    /// Media dropped because a ring was full.
    pub(super) ring_drops: u64,
    /// Reused by the worker between rings and router.
    pub(super) scratch: Vec<MeshMessage>,
}

/// Makes `count` members that can all talk to each other; the first `present` are there from
/// the start.
pub(super) fn members(count: usize, present: usize) -> io::Result<Vec<Member>> {
    assert!(count <= 128, "members are bits of a u128");
    let capacity = (RING_BUDGET / (count * count)).clamp(RING_MIN, RING_MAX);
    let mut inboxes = Vec::new();
    let mut mailboxes = Vec::new();
    for index in 0..count {
        let (sender, receiver) = mpsc::channel();
        inboxes.push(receiver);
        mailboxes.push(Mailbox {
            inbox: sender,
            waiting: AtomicUsize::new(0),
            is_asleep: AtomicBool::new(false),
            is_present: AtomicBool::new(index < present),
            wake: Wake::new()?,
        });
    }
    let mailboxes: Arc<[Mailbox]> = mailboxes.into();
    let mut members: Vec<Member> = inboxes
        .into_iter()
        .enumerate()
        .map(|(index, inbox)| Member {
            index,
            mailboxes: Arc::clone(&mailboxes),
            inbox,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            touched: 0,
            ring_drops: 0,
            scratch: Vec::new(),
        })
        .collect();
    for from in 0..count {
        for to in 0..count {
            let producer = (from != to).then(|| {
                let (producer, consumer) = RingBuffer::new(capacity);
                members[to].incoming.push(consumer);
                producer
            });
            members[from].outgoing.push(producer);
        }
    }
    Ok(members)
}

impl Member {
    pub(super) fn index(&self) -> WorkerIndex {
        WorkerIndex(self.index as u8)
    }

    pub(super) fn mailboxes(&self) -> &Arc<[Mailbox]> {
        &self.mailboxes
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.mailboxes[self.index].wake
    }

    /// The next order, if any.
    pub(super) fn order(&mut self) -> Option<Order> {
        let order = self.inbox.try_recv().ok()?;
        self.mailboxes[self.index]
            .waiting
            .fetch_sub(1, Ordering::Relaxed);
        Some(order)
    }

    /// Hands at most `limit` media messages of each other member to `take`; says whether any
    /// came.
    pub(super) fn drain_rings(&mut self, limit: usize, mut take: impl FnMut(MeshMessage)) -> bool {
        let mut came = false;
        for ring in &mut self.incoming {
            for _ in 0..limit {
                let Ok(message) = ring.pop() else { break };
                came = true;
                take(message);
            }
        }
        came
    }

    pub(super) fn send(&mut self, target: MeshTarget, message: MeshMessage) {
        match target {
            MeshTarget::One(member) => self.send_to(usize::from(member.0), message),
            MeshTarget::Everyone => {
                for member in 0..self.mailboxes.len() {
                    self.send_to(member, message.clone());
                }
            }
        }
    }

    fn send_to(&mut self, to: usize, message: MeshMessage) {
        let Some(Some(ring)) = self.outgoing.get_mut(to) else {
            return;
        };
        let mailbox = &self.mailboxes[to];
        if !mailbox.is_present.load(Ordering::Acquire) {
            return;
        }
        match message {
            MeshMessage::Packet(_) | MeshMessage::Datagram { .. } => {
                if ring.push(message).is_err() {
                    self.ring_drops += 1;
                }
            }
            // Few, and each one matters.
            control => mailbox.put(Order::Mesh(control)),
        }
        self.touched |= 1 << to;
    }

    /// Wakes everybody something was sent to since the last flush.
    pub(super) fn flush(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        while touched != 0 {
            self.mailboxes[touched.trailing_zeros() as usize].rouse();
            touched &= touched - 1;
        }
    }

    /// Says that this member is about to sleep; false when something has come meanwhile.
    ///
    /// The order matters: first the flag, then the look, so that a sender either sees the flag
    /// or is seen.
    pub(super) fn may_sleep(&self) -> bool {
        let mailbox = &self.mailboxes[self.index];
        mailbox.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_quiet = mailbox.waiting.load(Ordering::SeqCst) == 0
            && self.incoming.iter().all(Consumer::is_empty);
        if !is_quiet {
            self.wakes_up();
        }
        is_quiet
    }

    pub(super) fn wakes_up(&self) {
        self.mailboxes[self.index]
            .is_asleep
            .store(false, Ordering::SeqCst);
    }

    fn join(&self) {
        self.mailboxes[self.index]
            .is_present
            .store(true, Ordering::Release);
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            if index != self.index && mailbox.is_present.load(Ordering::Acquire) {
                mailbox.put(Order::Greet(self.index()));
                mailbox.rouse();
            }
        }
    }
}

/// A member of the mesh that is no worker: the mixer thread.
pub struct MeshMember {
    member: Member,
}

impl std::fmt::Debug for MeshMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshMember")
            .field("index", &self.member.index)
            .finish_non_exhaustive()
    }
}

impl MeshMember {
    /// Takes part from now on: workers tell it what they watch already.
    pub(super) fn new(member: Member) -> Self {
        member.join();
        Self { member }
    }

    /// Its index in the mesh: what [`MeshMessage::Watch`] carries as `from`.
    pub fn index(&self) -> WorkerIndex {
        self.member.index()
    }

    /// The next message, control before media.
    pub fn receive(&mut self) -> Option<MeshMessage> {
        while let Some(order) = self.member.order() {
            if let Order::Mesh(message) = order {
                return Some(message);
            }
        }
        self.member
            .incoming
            .iter_mut()
            .find_map(|ring| ring.pop().ok())
    }

    /// Sends to one member or to every other. Media is dropped and counted when the receiver's
    /// ring is full. Nobody is woken before [`flush`](Self::flush).
    pub fn send(&mut self, target: MeshTarget, message: MeshMessage) {
        self.member.send(target, message);
    }

    /// Wakes the receivers of everything sent since the last flush. Once per tick is best.
    pub fn flush(&mut self) {
        self.member.flush();
    }

    /// Media messages dropped because a ring was full.
    pub fn ring_drops(&self) -> u64 {
        self.member.ring_drops
    }

    /// Sleeps until a message comes or `timeout` has passed.
    pub fn wait(&self, timeout: Duration) {
        if self.member.may_sleep() {
            self.member.wake().sleep(timeout);
            self.member.wakes_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palabre_media::ids::TrackId;

    fn datagram(byte: u8) -> MeshMessage {
        let address = "127.0.0.1:1".parse().unwrap();
        MeshMessage::Datagram {
            from: address,
            to: address,
            bytes: vec![byte],
        }
    }

    fn byte(message: &MeshMessage) -> Option<u8> {
        match message {
            MeshMessage::Datagram { bytes, .. } => Some(bytes[0]),
            _ => None,
        }
    }

    #[test]
    fn media_is_dropped_when_a_ring_is_full_control_is_not() {
        let mut members = members(2, 2).unwrap();
        let mut receiver = members.pop().unwrap();
        let mut sender = members.pop().unwrap();
        for _ in 0..RING_MAX + 10 {
            sender.send(MeshTarget::Everyone, datagram(1));
            let watch = MeshMessage::Watch {
                track: TrackId(7),
                from: sender.index(),
            };
            sender.send(MeshTarget::One(WorkerIndex(1)), watch);
        }
        assert_eq!(sender.ring_drops, 10);
        let mut media = 0;
        receiver.drain_rings(usize::MAX, |_| media += 1);
        assert_eq!(media, RING_MAX);
        let orders = std::iter::from_fn(|| receiver.order()).count();
        assert_eq!(orders, RING_MAX + 10);
    }

    #[test]
    fn messages_of_one_sender_keep_their_order_and_never_return_to_it() {
        let mut members = members(3, 3).unwrap();
        for value in 0..100 {
            members[0].send(MeshTarget::Everyone, datagram(value));
        }
        assert!(!members[0].drain_rings(1000, |_| ()));
        for member in &mut members[1..] {
            let mut seen = Vec::new();
            member.drain_rings(1000, |message| seen.extend(byte(&message)));
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_sleeper_is_woken_by_what_was_sent_before_and_after_it_lay_down() {
        let mut all = members(2, 2).unwrap();
        let mut receiver = all.pop().unwrap();
        let mut sender = all.pop().unwrap();
        sender.send(MeshTarget::Everyone, datagram(1));
        sender.flush();
        assert!(!receiver.may_sleep(), "there is something to do");
        receiver.drain_rings(10, |_| ());
        let thread = std::thread::spawn(move || {
            let mut woken = 0;
            while woken < 100 {
                if receiver.may_sleep() {
                    receiver.wake().sleep(Duration::from_secs(60));
                    receiver.wakes_up();
                }
                receiver.drain_rings(10, |_| woken += 1);
            }
        });
        let start = std::time::Instant::now();
        for _ in 0..100 {
            sender.send(MeshTarget::Everyone, datagram(2));
            sender.flush();
            std::thread::yield_now();
        }
        thread.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_late_member_gets_nothing_before_and_greetings_after_joining() {
        let mut all = members(2, 1).unwrap();
        let late = all.pop().unwrap();
        let mut worker = all.pop().unwrap();
        worker.send(MeshTarget::Everyone, datagram(1));
        let mut late = MeshMember::new(late);
        assert!(late.receive().is_none());
        assert!(matches!(worker.order(), Some(Order::Greet(WorkerIndex(1)))));
        worker.send(MeshTarget::Everyone, datagram(2));
        assert_eq!(late.receive().as_ref().and_then(byte), Some(2));
    }

    #[test]
    fn a_full_inbox_refuses_the_control_plane() {
        let members = members(1, 1).unwrap();
        let mailbox = &members[0].mailboxes()[0];
        for _ in 0..INBOX_LIMIT {
            mailbox.order(Order::Sweep).unwrap();
        }
        assert_eq!(mailbox.order(Order::Sweep), Err(InboxFull));
    }
}
