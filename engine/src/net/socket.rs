//! The media socket: batched receive, trains by segmentation offload, sleeping, waking, pinning, priority.
//!
//! The only module of this crate with `unsafe`: each block is one call into the kernel, or one look at what it
//! wrote, with buffers this module owns. Knows nothing of sessions or protocols.
//!
//! ```text
//! recvmmsg + UDP_GRO: one entry may hold several datagrams of one sender
//! sendmmsg + UDP_SEGMENT: one entry is one train, cut by the kernel or the network card
//! ```
#![allow(unsafe_code)]

mod address;
mod control;
mod wake;

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use palabre_media::sfu::Train;
use socket2::{Domain, Protocol, Socket, Type};

use address::{read_name, write_name};
use control::{CONTROL_LEN, Control, segment_of, write_segment};
use wake::wait;

pub use wake::{Wake, sleep};

/// Entries in one receive call. Higher saves calls under load, each costs 64 KiB of address
/// space (touched only as far as datagrams reach).
const RECEIVE_ENTRIES: usize = 32;

/// The largest coalesced entry the kernel hands out.
const ENTRY_LEN: usize = 65_535;

/// Trains in one send call. Above some dozens a call costs next to nothing per train.
const SEND_ENTRIES: usize = 64;

/// Socket buffers asked for, in bytes: about 30 ms of 1 Gbit/s. The kernel may grant less.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// How long a send waits for room in the socket buffer before it drops.
const SEND_PATIENCE: Duration = Duration::from_millis(2);

/// Offload errors in a row after which trains are sent as single datagrams for good.
const OFFLOAD_STRIKES: u32 = 3;

/// One worker's socket on the shared port.
#[derive(Debug)]
pub struct MediaSocket {
    socket: UdpSocket,
    local: SocketAddr,
    has_offload: bool,
    offload_strikes: u32,
}

/// What became of the trains of one flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams handed to the kernel.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Trains handed to the kernel.
    pub trains: u64,
    /// System calls made for them.
    pub calls: u64,
    /// Trains the kernel refused to cut, sent datagram by datagram.
    pub fallbacks: u64,
    /// Datagrams the kernel did not take: full buffer, no route.
    pub dropped: u64,
}

impl MediaSocket {
    /// Opens `count` sockets on one address and port, among which the kernel spreads peers.
    ///
    /// Port 0 takes any free one. Refuses a port another program already uses, which
    /// `SO_REUSEPORT` alone would silently share with it.
    pub fn open(address: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        let probe = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        probe.bind(&address.into())?;
        let bound = probe
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        drop(probe);
        (0..count).map(|_| Self::bind(bound)).collect()
    }

    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // Both are wishes: the kernel caps them at its own limits.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(OwnedFd::from(socket));
        let has_offload = socket_option(&socket, libc::UDP_SEGMENT, 0).is_ok();
        let _ = socket_option(&socket, libc::UDP_GRO, 1);
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            local,
            has_offload,
            offload_strikes: 0,
        })
    }

    /// The address it is bound to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether trains leave as one piece (`UDP_SEGMENT`).
    pub fn has_offload(&self) -> bool {
        self.has_offload
    }

    /// Turns segmentation offload off, as on a machine without it.
    pub fn disable_offload(&mut self) {
        self.has_offload = false;
    }

    /// Takes datagrams one by one, as on a kernel that does not join them (`UDP_GRO`).
    pub fn disable_coalescing(&mut self) {
        let _ = socket_option(&self.socket, libc::UDP_GRO, 0);
    }

    /// Takes what has arrived, without waiting: the number of entries, 0 for nothing.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.filled = 0;
        let mut entries: [libc::mmsghdr; RECEIVE_ENTRIES] = {
            // SAFETY: mmsghdr is plain data for which all zeros is a valid value.
            unsafe { mem::zeroed() }
        };
        let mut vectors = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; RECEIVE_ENTRIES];
        for (index, buffer) in batch.bytes.chunks_exact_mut(ENTRY_LEN).enumerate() {
            vectors[index] = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: ENTRY_LEN,
            };
            let header = &mut entries[index].msg_hdr;
            header.msg_name = batch.names[index].as_mut_ptr().cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as u32;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = batch.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
        }
        // SAFETY: every header points at a name, a vector, a buffer and a control area that live
        // in `batch` or on this stack until the call returns, with their true lengths.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                entries.as_mut_ptr(),
                RECEIVE_ENTRIES as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        for (index, entry) in entries[..received as usize].iter().enumerate() {
            let len = entry.msg_len as usize;
            let segment = segment_of(&entry.msg_hdr)
                .filter(|segment| *segment > 0)
                .unwrap_or(len);
            batch.lengths[index] = (len, segment.max(1));
        }
        batch.filled = received as usize;
        Ok(batch.filled)
    }

    /// Sends trains in order. What cannot be sent is dropped and counted, as on any network.
    pub fn send<'a>(&mut self, trains: impl Iterator<Item = Train<'a>>) -> Sent {
        let mut sent = Sent::default();
        let has_offload = self.has_offload;
        let pieces = trains.flat_map(move |train| {
            let length = if has_offload {
                train.bytes.len()
            } else {
                train.segment
            };
            train
                .bytes
                .chunks(length.max(1))
                .map(move |bytes| Train { bytes, ..train })
        });
        let mut batch = [Train {
            to: self.local,
            segment: 1,
            bytes: &[],
        }; SEND_ENTRIES];
        let mut len = 0;
        for piece in pieces {
            batch[len] = piece;
            len += 1;
            if len == SEND_ENTRIES {
                self.send_batch(&batch, &mut sent);
                len = 0;
            }
        }
        self.send_batch(&batch[..len], &mut sent);
        sent
    }

    fn send_batch(&mut self, batch: &[Train<'_>], sent: &mut Sent) {
        let mut from = 0;
        let mut has_waited = false;
        while from < batch.len() {
            let part = &batch[from..(from + SEND_ENTRIES).min(batch.len())];
            sent.calls += 1;
            match self.send_part(part) {
                Ok(count) => {
                    for train in &part[..count] {
                        sent.datagrams += train.datagrams().count() as u64;
                        sent.bytes += train.bytes.len() as u64;
                        sent.trains += 1;
                        if train.bytes.len() > train.segment {
                            self.offload_strikes = 0;
                        }
                    }
                    from += count;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::ENOBUFS) if !has_waited => {
                        has_waited = true;
                        let _ = wait(
                            &[(self.socket.as_raw_fd(), libc::POLLOUT)],
                            Some(SEND_PATIENCE),
                        );
                    }
                    // Not for this size: a segment longer than the path's MTU must be sent in fragments, which
                    // offload does not do (EINVAL in older kernels). Or not on this path at all (EIO): only that
                    // counts against offload.
                    Some(error @ (libc::EMSGSIZE | libc::EINVAL | libc::EIO))
                        if part[0].bytes.len() > part[0].segment =>
                    {
                        sent.fallbacks += 1;
                        self.offload_strikes += u32::from(error == libc::EIO);
                        if self.offload_strikes >= OFFLOAD_STRIKES {
                            self.has_offload = false;
                        }
                        for bytes in part[0].datagrams() {
                            self.send_batch(&[Train { bytes, ..part[0] }], sent);
                        }
                        from += 1;
                    }
                    // This destination cannot be reached, or the buffer stays full.
                    _ => {
                        sent.dropped += part[0].datagrams().count() as u64;
                        from += 1;
                    }
                },
            }
        }
    }

    /// One `sendmmsg`: how many trains, from the first on, the kernel took.
    fn send_part(&self, trains: &[Train<'_>]) -> io::Result<usize> {
        let mut entries: [libc::mmsghdr; SEND_ENTRIES] = {
            // SAFETY: mmsghdr is plain data for which all zeros is a valid value.
            unsafe { mem::zeroed() }
        };
        let mut vectors = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; SEND_ENTRIES];
        let mut names = [MaybeUninit::<libc::sockaddr_storage>::zeroed(); SEND_ENTRIES];
        let mut controls = [Control([0; CONTROL_LEN]); SEND_ENTRIES];
        for (index, train) in trains.iter().enumerate() {
            // The kernel only reads from it.
            vectors[index] = libc::iovec {
                iov_base: train.bytes.as_ptr().cast_mut().cast(),
                iov_len: train.bytes.len(),
            };
            let header = &mut entries[index].msg_hdr;
            header.msg_namelen = write_name(&mut names[index], train.to);
            header.msg_name = names[index].as_mut_ptr().cast();
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            if train.bytes.len() > train.segment {
                header.msg_control = controls[index].0.as_mut_ptr().cast();
                header.msg_controllen =
                    write_segment(&mut controls[index], train.segment as u16) as _;
            }
        }
        // SAFETY: every header points at a name, a vector, train bytes and a control area that
        // outlive the call, with their true lengths; at most SEND_ENTRIES headers are read.
        let count = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                entries.as_mut_ptr(),
                trains.len().min(SEND_ENTRIES) as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count as usize)
        }
    }
}

fn socket_option(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            (&raw const value).cast(),
            mem::size_of::<libc::c_int>() as u32,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for one receive call, reused for all of a worker's life.
pub struct ReceiveBatch {
    bytes: Vec<u8>,
    names: Box<[MaybeUninit<libc::sockaddr_storage>; RECEIVE_ENTRIES]>,
    controls: Box<[Control; RECEIVE_ENTRIES]>,
    /// (bytes, segment size) of each filled entry.
    lengths: [(usize, usize); RECEIVE_ENTRIES],
    filled: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            bytes: vec![0; RECEIVE_ENTRIES * ENTRY_LEN],
            names: Box::new([MaybeUninit::zeroed(); RECEIVE_ENTRIES]),
            controls: Box::new([Control([0; CONTROL_LEN]); RECEIVE_ENTRIES]),
            lengths: [(0, 1); RECEIVE_ENTRIES],
            filled: 0,
        }
    }
}

impl ReceiveBatch {
    /// Every datagram received, with its sender, in order of arrival per sender.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        self.bytes
            .chunks_exact_mut(ENTRY_LEN)
            .zip(self.names.iter())
            .zip(self.lengths)
            .take(self.filled)
            .filter_map(|((bytes, name), (len, segment))| {
                read_name(name).map(|from| bytes[..len].chunks_mut(segment).map(move |d| (from, d)))
            })
            .flatten()
    }
}

/// Keeps the calling thread on one core, so that its caches and its socket's queue stay with it.
/// Best effort: a container may forbid it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain data for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `core` is within the set, checked above.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the pointer and length describe `set`; 0 is the calling thread.
    let outcome = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Schedules the calling thread round robin at this real-time priority (`SCHED_RR`, sched(7)).
///
/// # Errors
/// The system's: the right to it is missing, or it is no priority.
pub fn schedule_round_robin(priority: u8) -> io::Result<()> {
    // SAFETY: sched_param is plain data for which all zeros is a valid value.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = libc::c_int::from(priority);
    // SAFETY: the pointer is to `parameters`, which the kernel only reads; 0 is the calling thread.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (MediaSocket, UdpSocket) {
        let ours = MediaSocket::open("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        theirs
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        (ours, theirs)
    }

    fn read(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        (0..count)
            .map(|_| {
                let len = socket.recv(&mut buffer).unwrap();
                buffer[..len].to_vec()
            })
            .collect()
    }

    #[test]
    fn a_train_arrives_as_its_datagrams_with_and_without_offload() {
        for has_offload in [true, false] {
            let (mut ours, theirs) = pair();
            if !has_offload {
                ours.disable_offload();
            }
            let bytes: Vec<u8> = (0..3_250u32).map(|i| (i / 1000) as u8).collect();
            let to = theirs.local_addr().unwrap();
            let trains = [
                Train {
                    to,
                    segment: 1000,
                    bytes: &bytes,
                },
                Train {
                    to,
                    segment: 7,
                    bytes: b"1234567",
                },
            ];
            let sent = ours.send(trains.into_iter());
            assert_eq!((sent.datagrams, sent.bytes, sent.dropped), (5, 3_257, 0));
            assert_eq!(sent.trains, if ours.has_offload() { 2 } else { 5 });
            let lengths: Vec<_> = read(&theirs, 5).iter().map(Vec::len).collect();
            assert_eq!(lengths, [1000, 1000, 1000, 250, 7]);
        }
    }

    #[test]
    fn a_train_longer_than_the_path_allows_leaves_in_fragments() {
        std::thread::spawn(|| {
            if !palabre_tests::network::isolated() {
                return;
            }
            let mtu = ["link", "set", "lo", "mtu", "1500"];
            let status = std::process::Command::new("ip").args(mtu).status();
            assert!(status.unwrap().success());
            let (mut ours, theirs) = pair();
            let to = theirs.local_addr().unwrap();
            // 28 bytes are IPv4's and UDP's: 1472 fit, 1473 do not, and both must arrive.
            for segment in [1_472, 1_473, 1_500] {
                let bytes = vec![7; segment * 3 - 10];
                for _ in 0..2 * OFFLOAD_STRIKES {
                    let sent = ours.send(
                        [Train {
                            to,
                            segment,
                            bytes: &bytes,
                        }]
                        .into_iter(),
                    );
                    assert_eq!((sent.datagrams, sent.dropped), (3, 0), "{segment}");
                    let lengths: Vec<_> = read(&theirs, 3).iter().map(Vec::len).collect();
                    assert_eq!(lengths, [segment, segment, segment - 10]);
                }
            }
            assert!(ours.has_offload(), "shorter trains still gain by it");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn many_trains_leave_in_order() {
        let (mut ours, theirs) = pair();
        let to = theirs.local_addr().unwrap();
        let payloads: Vec<[u8; 4]> = (0..200u32).map(u32::to_be_bytes).collect();
        let trains = payloads.iter().map(|bytes| Train {
            to,
            segment: 4,
            bytes,
        });
        assert_eq!(ours.send(trains).datagrams, 200);
        assert_eq!(read(&theirs, 200), payloads);
    }

    #[test]
    fn coalesced_datagrams_are_received_one_by_one() {
        let mut sockets = MediaSocket::open("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let receiver = sockets.remove(0);
        let mut sender = MediaSocket::open("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let bytes = vec![9; 4_500];
        let to = receiver.local();
        sender.send(
            [Train {
                to,
                segment: 1_000,
                bytes: &bytes,
            }]
            .into_iter(),
        );
        let wake = Wake::new().unwrap();
        let mut batch = ReceiveBatch::default();
        let mut lengths = Vec::new();
        while lengths.len() < 5 {
            sleep(&receiver, &wake, Some(Duration::from_secs(5)));
            assert!(receiver.receive(&mut batch).unwrap() > 0);
            for (from, datagram) in batch.datagrams() {
                assert_eq!(from, sender.local());
                lengths.push(datagram.len());
            }
        }
        assert_eq!(lengths, [1000, 1000, 1000, 1000, 500]);
        assert_eq!(receiver.receive(&mut batch).unwrap(), 0);
        assert_eq!(batch.datagrams().count(), 0);
    }

    #[test]
    fn an_unreachable_destination_does_not_hold_up_the_others() {
        let (mut ours, theirs) = pair();
        let nowhere = "[2001:db8::1]:9".parse().unwrap();
        let to = theirs.local_addr().unwrap();
        let sent = ours.send(
            [
                Train {
                    to: nowhere,
                    segment: 1,
                    bytes: b"x",
                },
                Train {
                    to,
                    segment: 1,
                    bytes: b"y",
                },
            ]
            .into_iter(),
        );
        assert_eq!((sent.datagrams, sent.dropped), (1, 1));
        assert_eq!(read(&theirs, 1), [b"y"]);
    }

    #[test]
    fn a_port_in_use_is_refused_although_ports_are_shared() {
        let first = MediaSocket::open("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first[0].local(), first[1].local());
        let refused = MediaSocket::open(first[0].local(), 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
