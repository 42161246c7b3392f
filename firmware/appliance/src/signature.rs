//! Whether the firmware of this box would start a kernel image, asked before one is installed.
//!
//! A firmware that enforces Secure Boot refuses a kernel image by itself. But then it goes on to its
//! own menu, where a box without a person before it stays: counting tries needs somebody to switch
//! it off and on. So an update that it would refuse is refused here first. The bundle is signed
//! whole; what is asked here is only who signed the kernel image in it.

use std::io;
use std::io::Write;

/// Bytes from the start of a program in which its headers are. Debian's stub has them in 1 KiB.
const HEAD: usize = 4096;
/// The longest list of signatures that is looked at.
const LONGEST: u64 = 1 << 20;
/// `EFI_CERT_X509_GUID` (UEFI Specification 2.10, section 32.4.1), as it lies in memory.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];

/// Takes a program of UEFI as it streams by, and keeps the signatures in it.
#[derive(Debug, Default)]
pub struct Signatures {
    head: Vec<u8>,
    at: u64,
    table: Option<(u64, u64)>,
    kept: Vec<u8>,
}

impl Signatures {
    /// Whether one of them brings a certificate of the list `db`, the variable's file as Linux shows
    /// it. The certificates in the list are those whose signatures the firmware believes.
    pub fn are_trusted_by(&self, db: &[u8]) -> bool {
        certificates(db).iter().any(|certificate| {
            self.kept
                .windows(certificate.len())
                .any(|w| w == *certificate)
        })
    }
}

impl Write for Signatures {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.head.len() < HEAD {
            let missing = HEAD - self.head.len();
            self.head.extend(&bytes[..missing.min(bytes.len())]);
            self.table = table(&self.head);
        }
        if let Some((start, end)) = self.table {
            // Lengths of a piece in memory fit.
            let within =
                |place: u64| place.saturating_sub(self.at).min(bytes.len() as u64) as usize;
            self.kept.extend(&bytes[within(start)..within(end)]);
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the signatures of a program are, from its first bytes: the certificate table of a PE32+
/// file (PE Format, section "Optional Header Data Directories"). After the headers, or nowhere.
fn table(head: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| {
        let bytes = head.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let pe = usize::try_from(number(0x3c)?).ok()?;
    let optional = pe.checked_add(24)?;
    let signed = head.starts_with(b"MZ")
        && head.get(pe..optional)?.starts_with(b"PE\0\0")
        && head.get(optional..optional.checked_add(2)?)? == [0x0b, 0x02];
    // The fifth of the directories, which begin 112 bytes into the header.
    let (start, length) = (number(optional + 144)?, number(optional + 148)?);
    let (start, length) = (u64::from(start), u64::from(length));
    let usable = signed && start >= HEAD as u64 && (1..=LONGEST).contains(&length);
    usable.then_some((start, start + length))
}

/// The X.509 certificates of a signature database: attributes, then lists of entries of one size.
fn certificates(db: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = db.get(4..).unwrap_or_default();
    let number = |bytes: &[u8], at: usize| {
        let four = bytes.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
    };
    while let (Some(list), Some(header), Some(entry)) =
        (number(rest, 16), number(rest, 20), number(rest, 24))
    {
        if list < 28 || list > rest.len() {
            break;
        }
        let entries = rest[28..list].get(header..).unwrap_or_default();
        // An entry begins with the 16 bytes of its owner.
        if rest[..16] == X509 && entry > 16 {
            found.extend(entries.chunks_exact(entry).map(|entry| &entry[16..]));
        }
        rest = &rest[list..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program whose list of signatures is `table`, behind `body` bytes of code.
    fn program(body: usize, table: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD + body];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x98..0x9a].copy_from_slice(&[0x0b, 0x02]);
        let place = [HEAD + body, table.len()].map(|n| u32::try_from(n).unwrap().to_le_bytes());
        bytes[0x98 + 144..0x98 + 152].copy_from_slice(&place.concat());
        bytes.extend(table);
        bytes
    }

    fn list(kind: [u8; 16], certificates: &[&[u8]]) -> Vec<u8> {
        let entry = 16 + certificates[0].len();
        let sizes = [28 + entry * certificates.len(), 0, entry];
        let mut bytes = kind.to_vec();
        bytes.extend(
            sizes
                .map(|n| u32::try_from(n).unwrap().to_le_bytes())
                .concat(),
        );
        for certificate in certificates {
            bytes.extend([9; 16]);
            bytes.extend(*certificate);
        }
        bytes
    }

    fn database(lists: &[Vec<u8>]) -> Vec<u8> {
        [vec![7, 0, 0, 0], lists.concat()].concat()
    }

    fn read(bytes: &[u8], pieces: usize) -> Signatures {
        let mut signatures = Signatures::default();
        for piece in bytes.chunks(pieces) {
            signatures.write_all(piece).unwrap();
        }
        signatures
    }

    #[test]
    fn whose_signature_it_is_decides() {
        let signed = program(10_000, b"..a signature with OUR CERTIFICATE in it..");
        let ours = database(&[
            list([1; 16], &[b"a hash of 32 bytes"]),
            list(X509, &[b"ANOTHER CERTIFI", b"OUR CERTIFICATE"]),
        ]);
        let theirs = database(&[list(X509, &[b"ANOTHER CERTIFI"])]);
        let hashes = database(&[list([1; 16], &[b"OUR CERTIFICATE"])]);
        for pieces in [1, 7, 4096, 1 << 20] {
            let signatures = read(&signed, pieces);
            assert!(signatures.are_trusted_by(&ours), "{pieces}");
            assert!(!signatures.are_trusted_by(&theirs), "{pieces}");
            assert!(!signatures.are_trusted_by(&hashes), "{pieces}");
            assert!(!signatures.are_trusted_by(&[]), "{pieces}");
        }
        // The certificate somewhere else is no signature.
        let mut unsigned = program(10_000, b"");
        unsigned.extend(b"OUR CERTIFICATE");
        assert!(!read(&unsigned, 512).are_trusted_by(&ours));
        assert!(!read(b"OUR CERTIFICATE", 4).are_trusted_by(&ours));
    }

    #[test]
    fn damage_never_panics() {
        let signed = program(64, b"OUR CERTIFICATE");
        let db = database(&[list(X509, &[b"OUR CERTIFICATE"])]);
        let interesting = [
            0x3c,
            0x3d,
            0x3e,
            0x3f,
            0x98 + 144,
            0x98 + 147,
            0x98 + 148,
            0x98 + 151,
        ];
        for at in interesting {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = signed.clone();
                damaged[at] = value;
                read(&damaged, 1000).are_trusted_by(&db);
            }
        }
        for at in 0..db.len() {
            for value in [0, 1, 15, 0xff] {
                let mut damaged = db.clone();
                damaged[at] = value;
                read(&signed, 1000).are_trusted_by(&damaged);
            }
            read(&signed, 1000).are_trusted_by(&db[..at]);
        }
    }
}
