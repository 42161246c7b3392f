//! Who is trying, in the form tries are counted by.

use std::net::IpAddr;

/// Who is trying. `Debug` hides it: addresses and telephone numbers stay out of logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A machine on the network. IPv6 addresses count by their /64, which one subscriber holds whole.
    Address(IpAddr),
    /// A telephone: the address of the trunk or phone it comes through, and the number it shows
    /// (empty when hidden: hidden callers of one trunk are one source).
    Caller {
        /// Where the SIP message came from.
        through: IpAddr,
        /// The calling number or SIP user part.
        number: String,
    },
}

impl Source {
    /// Longest calling number kept; a longer one is cut, so that a peer cannot make us remember essays.
    const LONGEST_NUMBER: usize = 64;

    /// The same source in the form tries are counted by.
    pub(super) fn counted(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(network(address)),
            Self::Caller { through, number } => Self::Caller {
                through: network(through),
                number: number.chars().take(Self::LONGEST_NUMBER).collect(),
            },
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Address(_) => "Source::Address(…)",
            Self::Caller { .. } => "Source::Caller(…)",
        })
    }
}

/// The part of an address that one subscriber cannot change at will: IPv4 whole, IPv6 by its /64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(segments.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_do_not_show_in_logs() {
        let address = Source::Address(IpAddr::from([192, 0, 2, 1]));
        let caller = Source::Caller {
            through: IpAddr::from([192, 0, 2, 1]),
            number: "+33123456789".into(),
        };
        let shown = format!("{address:?} {caller:?}");
        assert!(!shown.contains(char::is_numeric), "{shown}");
    }
}
