//! SRTP against the limit: the same AEAD or cipher and MAC of aws-lc-rs, keys cached, on the
//! same bytes in the same process, without any SRTP around it.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::{hmac, iv::FixedLength};
use palabre_benches::{Case, compare};
use palabre_media::rtp::{ExtensionForm, PacketWriter, RtpFields};
use palabre_media::srtp::{DtlsRole, SrtpProfile, SrtpReceiver, SrtpSender, from_keying_material};

/// Payload of an Opus packet and of a full video packet, in bytes.
const PAYLOADS: [usize; 2] = [140, 1080];

/// Subscribers whose keys take turns, as when one packet is forwarded to a large room.
const SUBSCRIBERS: usize = 200;

fn main() {
    for profile in [
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
        SrtpProfile::AesCm128HmacSha1_80,
    ] {
        for payload in PAYLOADS {
            bench(profile, payload);
        }
    }
}

fn bench(profile: SrtpProfile, payload: usize) {
    let (packet, len, header_len) = packet(payload, profile.rtp_overhead());
    let (sender, mut receiver) = pair(profile, 0);

    let raw_seal = raw(profile, packet.clone(), len, header_len);
    let mut sealed = packet.clone();
    let mut index = 0u64;
    let mut rotating = packet.clone();
    let senders: Vec<SrtpSender> = (0..SUBSCRIBERS).map(|n| pair(profile, n as u8).0).collect();
    let mut turn = 0;
    let mut both = packet.clone();
    let mut both_index = 0u64;

    let cases = vec![
        Case::new("raw seal in place", raw_seal),
        Case::new("protect_rtp", || {
            index += 1;
            number(&mut sealed, index);
            sender
                .protect_rtp(&mut sealed, len, index)
                .expect("room for the tag")
        }),
        Case::new(format!("protect_rtp, {SUBSCRIBERS} keys in turn"), || {
            turn += 1;
            number(&mut rotating, turn);
            let sender = &senders[turn as usize % SUBSCRIBERS];
            sender
                .protect_rtp(&mut rotating, len, turn)
                .expect("room for the tag")
        }),
        Case::new("protect_rtp + unprotect_rtp", || {
            both_index += 1;
            number(&mut both, both_index);
            let total = sender
                .protect_rtp(&mut both, len, both_index)
                .expect("room for the tag");
            receiver
                .unprotect_rtp(&mut both[..total])
                .expect("authentic")
                .len
        }),
    ];
    compare(&format!("{}, {len} bytes", profile.as_str()), cases);
}

fn pair(profile: SrtpProfile, seed: u8) -> (SrtpSender, SrtpReceiver) {
    let len = 2 * (profile.key_len() + profile.salt_len());
    let material: Vec<u8> = (0..len).map(|n| n as u8 ^ seed).collect();
    let keys = |role| from_keying_material(profile, &material, role).expect("material fits");
    (keys(DtlsRole::Client).0, keys(DtlsRole::Server).1)
}

/// A packet with the extensions we send, room for the tag, its length and its header's.
fn packet(payload: usize, overhead: usize) -> (Vec<u8>, usize, usize) {
    let fields = RtpFields {
        payload_type: 96,
        marker: false,
        sequence: 0,
        timestamp: 1,
        ssrc: 0xCAFE,
    };
    let mut buffer = vec![0; 2048];
    let mut writer = PacketWriter::start(&mut buffer, &fields, ExtensionForm::OneByte)
        .expect("the buffer is large");
    writer.extension(2, &[1, 2, 3]).expect("fits");
    writer.extension(3, &[4, 5]).expect("fits");
    writer.payload(&vec![0x5A; payload]).expect("fits");
    let len = writer.finish();
    buffer.truncate(len + overhead);
    (buffer, len, len - payload)
}

fn number(packet: &mut [u8], index: u64) {
    packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
}

/// The crypto alone, on the same header and payload.
fn raw(
    profile: SrtpProfile,
    mut packet: Vec<u8>,
    len: usize,
    header_len: usize,
) -> Box<dyn FnMut()> {
    let key = vec![7; profile.key_len()];
    let algorithm = match profile {
        SrtpProfile::AeadAes128Gcm => &AES_128_GCM,
        SrtpProfile::AeadAes256Gcm => &AES_256_GCM,
        SrtpProfile::AesCm128HmacSha1_80 => {
            let unbound = UnboundCipherKey::new(&AES_128, &key).expect("key length");
            let cipher = EncryptingKey::ctr(unbound).expect("a cipher");
            let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[7; 20]);
            return Box::new(move || {
                let context = EncryptionContext::Iv128(FixedLength::from([9; 16]));
                cipher
                    .less_safe_encrypt(&mut packet[header_len..len], context)
                    .expect("any length");
                let tag = hmac::sign(&mac, &packet[..len]);
                packet[len..].copy_from_slice(&tag.as_ref()[..10]);
            });
        }
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).expect("key length"));
    Box::new(move || {
        let (header, rest) = packet.split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(len - header_len);
        let sealed = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key([9; 12]),
                Aad::from(&*header),
                payload,
            )
            .expect("short");
        tag.copy_from_slice(sealed.as_ref());
    })
}
