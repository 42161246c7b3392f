//! The libopus encoder as owned memory that can be copied: the crate's only unsafe code.
//!
//! libopus documents an encoder's state as one block of `opus_encoder_get_size` bytes without
//! pointers into itself, which "can be copied". The mixer needs that copy (a listener who begins to
//! talk goes on from the shared encoder's state), and no safe wrapper offers it.
#![allow(unsafe_code)]

use std::ffi::c_int;

use opusic_sys as sys;

/// libopus rounds its inner offsets to the alignment of a pointer; 16 is enough on every target.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Block([u8; 16]);

/// State of one mono 48 kHz encoder. Plain memory: `Send`, copyable with [`State::copy_from`].
pub(super) struct State {
    blocks: Box<[Block]>,
}

/// A negative return code of libopus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpusCode(pub(super) c_int);

fn checked(code: c_int) -> Result<c_int, OpusCode> {
    if code < 0 {
        Err(OpusCode(code))
    } else {
        Ok(code)
    }
}

impl State {
    /// A fresh mono 48 kHz encoder for speech (`OPUS_APPLICATION_VOIP`).
    pub(super) fn new() -> Result<Self, OpusCode> {
        // SAFETY: a pure function of its argument.
        let size = unsafe { sys::opus_encoder_get_size(1) };
        let size = usize::try_from(size).map_err(|_| OpusCode(size))?;
        let mut state = Self {
            blocks: vec![Block([0; 16]); size.div_ceil(16)].into_boxed_slice(),
        };
        // SAFETY: the block is at least `opus_encoder_get_size(1)` bytes, aligned to 16, and ours alone.
        checked(unsafe {
            sys::opus_encoder_init(state.pointer(), 48_000, 1, sys::OPUS_APPLICATION_VOIP)
        })?;
        Ok(state)
    }

    fn pointer(&mut self) -> *mut sys::OpusEncoder {
        self.blocks.as_mut_ptr().cast()
    }

    /// Sets one integer parameter (an `OPUS_SET_*_REQUEST`).
    pub(super) fn set(&mut self, request: c_int, value: i32) -> Result<(), OpusCode> {
        debug_assert!(request % 2 == 0, "OPUS_SET requests are even");
        // SAFETY: the state was initialised by `new`; every even request takes one opus_int32 by value.
        checked(unsafe { sys::opus_encoder_ctl(self.pointer(), request, value) }).map(|_| ())
    }

    /// Encodes one frame of 20 ms; returns the length written to `output`.
    pub(super) fn encode(
        &mut self,
        samples: &[f32; 960],
        output: &mut [u8],
    ) -> Result<usize, OpusCode> {
        let room = i32::try_from(output.len()).unwrap_or(i32::MAX);
        // SAFETY: the state was initialised by `new`; `samples` holds 960 mono samples, which is the frame
        // size passed; at most `room` bytes are written to `output`.
        let written = checked(unsafe {
            sys::opus_encode_float(
                self.pointer(),
                samples.as_ptr(),
                960,
                output.as_mut_ptr(),
                room,
            )
        })?;
        Ok(written as usize)
    }

    /// Makes this encoder the twin of `other`: both give the same bytes for the same samples from here on.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.blocks.copy_from_slice(&other.blocks);
    }
}

/// Whether the packet carries in-band FEC (LBRR) of the frame before it. `false` for a broken packet.
pub(super) fn has_lbrr(packet: &[u8]) -> bool {
    let Ok(length) = i32::try_from(packet.len()) else {
        return false;
    };
    if length == 0 {
        return false;
    }
    // SAFETY: `packet` points to `length` readable bytes, at least one; libopus checks the framing.
    unsafe { sys::opus_packet_has_lbrr(packet.as_ptr(), length) == 1 }
}
