//! Control messages: the segment size of a train to send, and of a coalesced entry received.
#![allow(unsafe_code)]

use std::mem;

pub(super) const CONTROL_LEN: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_LEN]);

/// `UDP_SEGMENT` as a control message; returns its length.
pub(super) fn write_segment(control: &mut Control, segment: u16) -> usize {
    // Laid out as cmsg(3) says: header, then the value, both aligned to the word size.
    const HEADER: usize = mem::size_of::<libc::cmsghdr>();
    let header = &mut control.0;
    header[..mem::size_of::<usize>()].copy_from_slice(&(HEADER + 2).to_ne_bytes());
    let level_at = mem::offset_of!(libc::cmsghdr, cmsg_level);
    header[level_at..level_at + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    let type_at = mem::offset_of!(libc::cmsghdr, cmsg_type);
    header[type_at..type_at + 4].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    header[HEADER..HEADER + 2].copy_from_slice(&segment.to_ne_bytes());
    (HEADER + 2).next_multiple_of(mem::size_of::<usize>())
}

/// The segment size of a coalesced entry (`UDP_GRO`).
pub(super) fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: `header` was filled by recvmmsg: its control area and length are valid, and
    // CMSG_FIRSTHDR/CMSG_NXTHDR stay inside them.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: a non-null result of the two macros points at a whole cmsghdr.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if level == libc::SOL_UDP && kind == libc::UDP_GRO {
            // SAFETY: the data of UDP_GRO is one c_int; it may be unaligned.
            let segment = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::c_int>()
                    .read_unaligned()
            };
            return usize::try_from(segment).ok();
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}
